"""A template that begins the think block: what is trained, recorded, read and evaluated then."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from star_r1.analyze.along import read_curves
from star_r1.data.pictures import read_pair
from star_r1.evaluate import local
from star_r1.evaluate.run import evaluate
from star_r1.evaluate.scoring import score_file
from star_r1.model.loading import load_model, load_processor
from star_r1.reward.adapters.trl import PROMPT_END, star_reward
from star_r1.train import grpo
from star_r1.train.grpo import SharedPromptGRPOTrainer, StarGRPOConfig, StarGRPOTrainer, prompts_of
from star_r1.train.sft import answers_of, teach

OPEN, EMPTY = "<think>\n", "<think>\n\n</think>\n\n"
THOUGHT = "2: small red metal cube now small cyan metal cube color"
WHOLE = f"<think>{THOUGHT}</think><answer>2.color.cyan</answer>"
REST = WHOLE.removeprefix("<think>")
BARE = "<answer>2.color.cyan</answer>"


@pytest.fixture
def model_with(model_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a model folder whose chat template writes this behind the head of the answer."""

    def make(end: str) -> Path:
        folder = tmp_path / f"model{len(end)}"
        processor = load_processor(str(model_folder))
        before = "<|im_start|>assistant\n{% endif %}"
        assert processor.chat_template.count(before) == 1
        after = before.replace("{%", f"{end}{{%")
        processor.chat_template = processor.chat_template.replace(before, after)
        processor.tokenizer.chat_template = processor.chat_template
        load_model(str(model_folder)).save_pretrained(folder)
        processor.save_pretrained(folder)
        assert load_processor(str(folder)).chat_template == processor.chat_template
        return folder

    return make


def say(trainer: Any, texts: list[str]) -> None:
    """Let a trainer sample these texts, in turns."""
    ids = [trainer.processing_class.tokenizer(text)["input_ids"] for text in texts]

    def generate(prompt_ids: list[list[int]], *_: Any, **__: Any) -> Any:
        return [ids[row % len(ids)] for row in range(len(prompt_ids))], None

    trainer._generate_single_turn = generate


@pytest.mark.parametrize("cls", [StarGRPOTrainer, SharedPromptGRPOTrainer])
@pytest.mark.parametrize(
    ("end", "kept"),
    [
        ("", {WHOLE: 1, REST: 0, BARE: 0}),
        (OPEN, {WHOLE: 1, REST: 1, BARE: 0}),
        (EMPTY, {WHOLE: 1, REST: 0, BARE: 1}),
    ],
)
def test_the_trainer_judges_what_the_template_began(
    cls: Any,
    end: str,
    kept: dict[str, int],
    model_with: Callable[[str], Path],
    data_folder: Path,
    tmp_path: Path,
) -> None:
    folder = str(model_with(end))
    trainer = cls(
        load_model(folder),
        star_reward,
        StarGRPOConfig(
            str(tmp_path / "run"),
            per_device_train_batch_size=6,
            num_generations=3,
            use_cpu=True,
            report_to="none",
        ),
        train_dataset=prompts_of(str(data_folder), ["center"]),
        processing_class=load_processor(folder),
    )
    say(trainer, list(kept))
    rows = [trainer.train_dataset[place] for place in (0, 0, 0, 1, 1, 1)]
    trainer._generate_and_score_completions(rows)
    assert list(trainer._logs["extra"]["format"]) == [*kept.values()] * 2
    assert list(trainer._logs["extra"][PROMPT_END]) == [end] * 6


def test_a_thinking_model_is_trained_and_evaluated(
    model_with: Callable[[str], Path],
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, out = model_with(OPEN), tmp_path / "run"
    ids = load_processor(str(folder)).tokenizer(REST)["input_ids"]
    monkeypatch.setattr(
        SharedPromptGRPOTrainer,
        "_generate_single_turn",
        lambda self, prompts, *_: ([ids] * len(prompts), None),
    )
    flags = [
        *("--model", str(folder), "--data", str(data_folder), "--output_dir", str(out)),
        *("--use_cpu", "--report_to", "none", "--max_steps", "1", "--num_generations", "2"),
        *("--per_device_train_batch_size", "4", "--save_strategy", "no"),
    ]
    assert grpo.main([*flags, "--dry-run"]) == 0
    assert "begun by the chat template, to be closed by the model" in capsys.readouterr().out
    assert grpo.main(flags) == 0
    first = json.loads((out / "log.jsonl").read_text().splitlines()[0])
    assert first["reward/format"] == first["answer/well_formed"] == 1
    (table,) = (out / "completions").glob("*.parquet")
    assert pq.read_table(table)[PROMPT_END].to_pylist() == [OPEN] * 4
    (curve,) = read_curves(out)
    assert curve["words"] == len(THOUGHT.split())

    end = load_model(str(out)).generation_config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    monkeypatch.setattr(local, "_greedy", lambda model, inputs, most: [[*ids, end]] * len(
        inputs["attention_mask"]
    ))  # fmt: skip
    evaluate(str(out), data_folder, tmp_path / "evaluation")
    record = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert record["answers"]["malformed"] == 0
    lines = tmp_path / "evaluation" / "predictions.jsonl"
    assert json.loads(lines.read_text().splitlines()[0])["completion"] == f"{OPEN}{REST}"
    assert score_file(data_folder, lines)["answers"]["malformed"] == 0

    # A file of others bears no key: there the text tells.
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    foreign = [json.dumps({"id": row["id"], "completion": REST}) for row in rows]
    lines.write_text("\n".join(foreign) + "\n")
    assert score_file(data_folder, lines)["answers"]["malformed"] == 0


@pytest.mark.parametrize(
    ("end", "learned"),
    [
        ("", "<think></think>{}"),
        (OPEN, "</think>{}"),
        (EMPTY, "{}"),
    ],
)
def test_sft_learns_how_the_block_goes_on(
    end: str, learned: str, model_with: Callable[[str], Path], data_folder: Path
) -> None:
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    processor = load_processor(str(model_with(end)))
    rows = answers_of(str(data_folder), ["center"])
    row = teach(rows.select([0]), processor)[0]
    row["images"] = read_pair(row)
    batch = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)([row])
    (labels,), (ids,) = batch["labels"], batch["input_ids"]
    answer = f"<answer>{rows[0]['answer']}</answer>"
    text = processor.tokenizer.decode(labels[labels != -100])
    assert text == learned.format(answer) + "<|im_end|>\n"
    # What it goes on from is the prompt to the letter, as sampling sees it.
    prompt = processor.apply_chat_template(
        rows[0]["prompt"], add_generation_prompt=True, tokenize=False
    )
    (same,) = processor(text=[prompt], images=[row["images"]], return_tensors="pt")["input_ids"]
    assert ids[labels == -100].tolist() == same.tolist()
