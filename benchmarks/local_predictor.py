"""Answers a second of the local predictor beside plain ``generate`` loops, in one run.

    python benchmarks/local_predictor.py                        # the embedded model, on the CPU
    python benchmarks/local_predictor.py --model NAME --rows 64 # any Qwen-VL, where there is a GPU

Four arms answer the same rows of one dataset greedily, in one process, taking turns round by round:
``generate``, a plain loop over transformers' ``generate``, a row at a time and 16 at a time; and
``star-r1``, the predictor of ``star-r1 evaluate``, a row at a time and 16 at a time. Encoding the
prompts counts in all of them. Their completions are compared: in float32 all must be the same.
Where other work runs beside it, look at the CPU-seconds.

Writes results/local_predictor/; the embedded model takes a few minutes.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from star_r1.data.build import generate
from star_r1.data.dataset import load
from star_r1.evaluate.local import LocalModel
from star_r1.evaluate.predictor import Question
from star_r1.evaluate.questions import ask, fingerprint
from star_r1.files import write_atomic
from star_r1.provenance import provenance
from star_r1.tvr.sampler import SceneRules

OUT = Path(__file__).parents[1] / "results" / "local_predictor"
BATCH = 16
RULES = SceneRules(visible=(2, 5), changes=(1, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--rows", type=int, default=96, help="a round, three views of a third")
    parser.add_argument("--rounds", type=int, default=5, help="counted, after one to warm up")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the result")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    with tempfile.TemporaryDirectory() as folder:
        generate(
            Path(folder) / "data",
            arguments.rows // 3,
            0,
            size=(160, 120),
            rules=RULES,
            samples_per_pixel=8,
        )
        result = measure(
            load(Path(folder) / "data"),
            arguments.model,
            arguments.rounds,
            arguments.max_new_tokens,
        )
    head = {
        "command": "python benchmarks/local_predictor.py "
        f"--rows {arguments.rows} --rounds {arguments.rounds} --threads {arguments.threads} "
        f"--max-new-tokens {arguments.max_new_tokens}",
        "model": arguments.model,
        "torch_threads": arguments.threads,
    }
    name = f"{arguments.model.rpartition('/')[2]}-{result['device']}.json"
    text = json.dumps({**head, **result, **provenance()}, indent=1) + "\n"
    write_atomic(arguments.out / name, text)
    print(text)


def measure(rows: Any, model: str, rounds: int, max_new_tokens: int) -> dict[str, Any]:
    """All arms on these rows: seconds a round, rates, and whether they say the same."""
    alone = LocalModel.load(model, batch_size=1, max_new_tokens=max_new_tokens)
    batched = LocalModel(
        alone.model, alone.processor, batch_size=BATCH, max_new_tokens=max_new_tokens
    )
    questions = list(ask(rows, fingerprint(rows)))
    arms: dict[str, Callable[[], dict[str, str]]] = {
        "generate": lambda: plain_generate(alone, questions, 1),
        f"generate, batch {BATCH}": lambda: plain_generate(alone, questions, BATCH),
        "star-r1": lambda: {said.id: said.text for said in alone.predict(questions)},
        f"star-r1, batch {BATCH}": lambda: {
            said.id: said.text for said in batched.predict(questions)
        },
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    said: dict[str, dict[str, str]] = {}
    for number in range(rounds + 1):
        for name, answer in arms.items():
            wall, cpu = time.perf_counter(), time.process_time()
            said[name] = answer()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number:  # the first round warms up
                spent[name].append((wall, cpu))
            print(f"round {number}: {name}: {wall:.1f} s", file=sys.stderr, flush=True)
    reference = said["generate"]
    tokens = [len(ids) for ids in alone.processor.tokenizer(list(reference.values()))["input_ids"]]
    medians = {
        name: [statistics.median(column) for column in zip(*pairs, strict=True)]
        for name, pairs in spent.items()
    }
    ours = medians[f"star-r1, batch {BATCH}"]
    return {
        "device": alone.model.device.type,
        "dtype": str(alone.model.dtype).removeprefix("torch."),
        "rows": len(questions),
        "rounds": rounds,
        "tokens_a_completion": {"mean": statistics.fmean(tokens), "max": max(tokens)},
        "arms": {
            name: {
                "seconds": [round(wall, 3) for wall, _ in spent[name]],
                "rows_a_second": round(len(questions) / wall, 2),
                "rows_a_cpu_second": round(len(questions) / cpu, 2),
                "equal_completions": sum(said[name][id] == reference[id] for id in reference),
            }
            for name, (wall, cpu) in medians.items()
        },
        "times_faster": {
            f"star-r1, batch {BATCH}, than {name}": round(medians[name][0] / ours[0], 2)
            for name in arms
            if name.startswith("generate")
        },
        "times_less_cpu": {
            f"star-r1, batch {BATCH}, than {name}": round(medians[name][1] / ours[1], 2)
            for name in arms
            if name.startswith("generate")
        },
    }


@torch.inference_mode()
def plain_generate(
    local: LocalModel, questions: Sequence[Question], batch_size: int
) -> dict[str, str]:
    """What one writes with transformers alone: encode, generate, decode, in the given order."""
    model, processor = local.model, local.processor
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    forbidden = [model.config.to_dict()[name] for name in names]
    said = {}
    for start in range(0, len(questions), batch_size):
        some = questions[start : start + batch_size]
        inputs = processor(
            text=[
                processor.apply_chat_template(
                    question.messages, add_generation_prompt=True, tokenize=False
                )
                for question in some
            ],
            images=[list(question.see()) for question in some],
            padding=True,
            return_tensors="pt",
        ).to(model.device, model.dtype)
        written = model.generate(
            **inputs,
            do_sample=False,
            repetition_penalty=1.0,
            max_new_tokens=local.max_new_tokens,
            suppress_tokens=forbidden,
        )[:, inputs["input_ids"].shape[1] :]
        texts = processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        said |= {question.id: text for question, text in zip(some, texts, strict=True)}
    return said


if __name__ == "__main__":
    main()
