"""The benchmark of a step, on shrunk models, in a thread instead of a process."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import grpo_step.arm  # noqa: E402
from grpo_step.arm import serve  # noqa: E402
from grpo_step.case import ARMS, Case, cases  # noqa: E402
from grpo_step.summary import summary, update_flops  # noqa: E402

TINY = Case("Qwen/Qwen2.5-VL-7B-Instruct", (56, 56), 6, 1, group=2, tiny=True, given=2, sampled=2)
Ask = Callable[[Any], dict[str, Any]]


@pytest.fixture(params=ARMS)
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Ask]]:
    """An arm, and what answers for it."""
    ours, theirs = Pipe()

    def work() -> None:
        with theirs:  # so that nobody waits for what has failed
            serve(theirs, request.param, tmp_path, torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()

    def ask(question: Any) -> dict[str, Any]:
        ours.send(question)
        answer: dict[str, Any] = ours.recv()
        return answer

    yield request.param, ask
    with suppress(BrokenPipeError):  # what has failed hangs up, perhaps just now
        ours.send(None)
    thread.join()


@pytest.mark.parametrize("settings", [{}, {"checkpointing": True}, {"free": True}], ids=str)
def test_steps_are_measured(ask: tuple[str, Ask], settings: dict[str, bool]) -> None:
    arm, answers = ask
    case = replace(TINY, **settings)
    record: dict[str, Any] = {**answers(case), "steps": []}
    for kind in case.steps:
        record["steps"].append({"kind": kind, **answers(kind)})
    for step in record["steps"]:
        assert 0 <= step["sampling"] < step["step"]
    result = summary(case, "cpu", {arm: record})["arms"][arm]
    assert set(result["seconds"]) == {"update", "sampling", "step"}
    assert result["seconds"]["update"]["steps"] == 1
    assert min(result["memory_gb"].values()) > 0
    assert record["prompt_tokens"][0] > 200  # the system message is there, in words, not bytes


def test_running_out_of_memory_is_an_answer(
    ask: tuple[str, Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, answers = ask

    def fail(case: Case, rows: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(grpo_step.arm, "build", fail)
    record = {"steps": [], **answers(TINY)}
    other = next(name for name in ARMS if name != arm)
    done = {**SIZES, "steps": [{**STEP, "kind": "given"}] * 2}
    result = summary(replace(TINY, tiny=False), "NVIDIA H200", {arm: record, other: done})
    assert result["arms"][arm] == {"error": "out of memory"}
    assert result["arms"][other]["seconds"]["update"]["median"] == 3
    assert "times_less_activation_memory" not in result


STEP = {
    "step": 4.0,
    "step_cpu": 4.0,
    "sampling": 1.0,
    "sampling_cpu": 1.0,
    "resident": 2**30,
    "update_peak": 3 * 2**30,
    "sampling_peak": 2**30,
    "length": 6,
}
SIZES = {
    "parameters": {"vision": 5, "language": 100, "embeddings": 14, "output layer": 7},
    "attention_width": 3,
    "prompt_tokens": [10],
    "prompt_patches": [20],
}


def test_ratios_on_a_gpu() -> None:
    case = replace(TINY, tiny=False)
    fast = {**STEP, "step": 2.5, "update_peak": 2**30 * 3 // 2}
    steps = {ARMS[0]: STEP, ARMS[1]: fast}
    records = {
        arm: {**SIZES, "steps": [{**step, "kind": kind} for kind in case.steps]}
        for arm, step in steps.items()
    }
    result = summary(case, "NVIDIA H200", records)
    assert result["times_faster"] == {"update": 2, "sampling": 1, "step": 1.6}
    assert result["times_less_activation_memory"] == 4
    assert result["arms"][ARMS[0]]["update_tokens_a_second"] == round(2 * 16 / 3)


def test_operations_of_an_update() -> None:
    """By hand: prompts of 10 tokens and 20 patches, two completions of 6 tokens."""
    pairs_alone = sum(range(1, 17)) * 2
    pairs_shared = sum(range(1, 11)) + 2 * sum(range(11, 17))
    head, width, language, vision = 4 * 2 * 7 * 12, 3, 100, 5
    assert update_flops(TINY, SIZES, shared=False) == (
        4 * (2 * language * 32 + 4 * width * pairs_alone) + head + 4 * vision * 40
    )
    assert update_flops(TINY, SIZES, shared=True) == (
        4 * (2 * language * 22 + 4 * width * pairs_shared) + head + 4 * vision * 20
    )


def test_what_is_measured() -> None:
    found = cases("Qwen/Qwen2.5-VL-3B-Instruct", False, (), None, None)
    settings = {(case.pictures, case.length, case.checkpointing) for case in found}
    assert len(settings) == len(found) == 8
    assert all(case.given > 1 for case in found)
    mini = cases("mini", False, (), None, 2)
    assert [(case.length, case.free) for case in mini] == [(52, False), (96, False), (96, True)]
    assert all(case.steps == ["sampled"] * 3 for case in mini)
