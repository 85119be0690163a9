"""What a step of GRPO costs: TRL's own path beside shared prompts, in one run.

    python benchmarks/grpo_step.py                                      # mini, on the CPU
    python benchmarks/grpo_step.py --shape Qwen/Qwen2.5-VL-7B-Instruct  # random weights, on a GPU
    python benchmarks/grpo_step.py --shape Qwen/Qwen2.5-VL-3B-Instruct

Both arms run TRL's training loop on the same prompts, from the same weights, with completions of
one given length: the tokens that could end one get no probability. (For mini there is also a case
with completions as long as the model makes them.) A step is timed as a whole and in its two parts:
``sampling`` draws the completions, ``update`` is all else (encoding the prompts, reference
log-probabilities, forward, backward, optimizer). On the CPU the arms take turns step by step, each
in a process of its own; where other work runs beside them, look at the CPU-seconds. On a GPU they
run one after the other, since both do not fit, and most steps are handed random completions instead
of sampling them. Memory: on the CPU the most that the process ever held; on a GPU what the
allocator held, and as activations what the update adds to weights, optimizer and gradients. An arm
that runs out of memory is recorded as such.
Writes results/grpo_step/, anew after each case; mini takes some five minutes on two cores.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from grpo_step.arm import serve
from grpo_step.case import ARMS, Case, cases
from grpo_step.summary import summary

from star_r1.files import write_atomic
from star_r1.model.source import MINI
from star_r1.provenance import provenance

OUT = Path(__file__).parents[1] / "results" / "grpo_step"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default=MINI, help="mini, or a published model (random weights)")
    parser.add_argument("--lengths", type=int, nargs="+", default=(), help="tokens a completion")
    parser.add_argument("--prompts", type=int, help="a step")
    parser.add_argument("--repeats", type=int, help="counted steps of each kind")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--tiny", action="store_true", help="shrink the shape, to try the program")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the result")
    arguments = parser.parse_args()

    todo = cases(
        arguments.shape, arguments.tiny, arguments.lengths, arguments.prompts, arguments.repeats
    )
    device = "cpu"
    if not todo[0].on_cpu:
        if not torch.cuda.is_available():
            sys.exit(f"{arguments.shape} needs a GPU, and here is none; --tiny tries the program")
        device = torch.cuda.get_device_name()
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # or Trainer spreads over all of them
    name = device.removeprefix("NVIDIA ").replace(" ", "-")
    out = arguments.out / f"{arguments.shape.rpartition('/')[2]}-{name}.json"
    found: dict[Case, dict[str, Any]] = {case: {} for case in todo}
    head = {
        "command": " ".join(["python", "benchmarks/grpo_step.py", *sys.argv[1:]]),
        "device": device,
        "torch_threads": arguments.threads,
    }
    # Side by side where both fit, each case in fresh processes; else one arm after the other.
    rounds = [(ARMS, [case]) for case in todo] if device == "cpu" else [((a,), todo) for a in ARMS]
    with tempfile.TemporaryDirectory() as folder:
        for arms, some in rounds:
            children = [Child(arm, Path(folder), arguments.threads) for arm in arms]
            for case in some:
                found[case] |= turns(children, case)
                shown = [summary(case, device, records) for case, records in found.items()]
                result = {**head, "cases": shown, **provenance()}
                write_atomic(out, json.dumps(result, indent=1) + "\n")
            for child in children:
                child.close()
    print(out.read_text())


class Child:
    """A process that runs one arm; it is started anew if it dies."""

    def __init__(self, arm: str, folder: Path, threads: int) -> None:
        self.arm = arm
        self._arguments = (arm, folder, threads)
        self._process: Any = None

    def ask(self, question: Case | str) -> dict[str, Any]:
        """Answers to a case with its sizes when it is ready; to the kind of a step when it is done.

        Instead there may be an ``error``; then the case has ended.
        """
        if self._process is None or not self._process.is_alive():
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(theirs, *self._arguments))
            self._process.start()
            theirs.close()
        self._connection.send(question)
        try:
            answer: dict[str, Any] = self._connection.recv()
        except EOFError:
            self._process.join()
            return {"error": f"the process ended with {self._process.exitcode}"}
        if "error" in answer:
            self._process.join()
        return answer

    def close(self) -> None:
        """Let it end."""
        if self._process is not None and self._process.is_alive():
            self._connection.send(None)
            self._process.join()


def turns(children: Sequence[Child], case: Case) -> dict[str, dict[str, Any]]:
    """The steps of a case by the children in turns: by arm, its sizes and its steps."""
    found = {child.arm: {"steps": [], **child.ask(case)} for child in children}
    for kind in case.steps:
        for child in children:
            record = found[child.arm]
            if "error" not in record:
                answer = child.ask(kind)
                record["steps"].append({"kind": kind, **answer})
                if "error" in answer:
                    record["error"] = answer["error"]
    for arm, record in found.items():
        print(f"{case} {arm}: {record.get('error', 'done')}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
