"""One text, one score, whichever engine hands it over and whatever its template began."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.evaluate.lmms_eval_task import process_results
from star_r1.evaluate.one_row import row_values
from star_r1.reward.adapters import easyr1, ms_swift, verl
from star_r1.reward.adapters.trl import PROMPT_END, logged_text, star_reward, text_of
from star_r1.tvr.change import format_changes

TRUTH = "2.color.cyan"
RIGHT = f"<answer>{TRUTH}</answer>"
TEXTS = {
    f"2: cyan</think>{RIGHT}": 6,
    f"\n2: cyan\n</think>\n\n{RIGHT}\n": 6,
    f"<think>2: cyan</think>{RIGHT}": 6,
    f"2: cyan</think>{RIGHT}.": 5,
    f"2: cyan</think></think>{RIGHT}": 5,
    f"2: <think>cyan</think>{RIGHT}": 5,
    RIGHT: 5,
    "2: cyan</think><answer>3.color.red</answer>": 0,
    "2: cyan": -1,
    "": -1,
}
"""Completions of a thinking model, whose template wrote <think>, and their rewards."""


@pytest.mark.parametrize("text", TEXTS)
def test_every_adapter_scores_a_thinking_model_alike(text: str) -> None:
    message = [{"role": "assistant", "content": text}]
    asked = [[{"role": "user", "content": "?"}]]
    begun = {PROMPT_END: ["<think>\n"]}
    scores = {
        "our trainer": star_reward([message], [TRUTH], prompts=asked, **begun)[0],
        "TRL": star_reward([message], [TRUTH], prompts=asked)[0],
        "TRL, prompts of text": star_reward([text], [TRUTH], prompts=["?\n<think>\n"])[0],
        "verl": verl.compute_score("tvr", text, TRUTH)["score"],
        "EasyR1": easyr1.compute_score([{"response": text, "ground_truth": TRUTH}])[0]["overall"],
        "ms-swift": ms_swift.rewards([text], [TRUTH])[0],
    }
    assert scores == dict.fromkeys(scores, TEXTS[text])


@pytest.mark.parametrize("text", TEXTS)
def test_harnesses_count_a_thinking_model_right(text: str, data_folder: Path) -> None:
    """lmms-eval's and ours; the other adapters of harnesses need those (tests/evaluate)."""
    (row,) = islice(read_columns(data_folder, SAMPLE_COLUMNS), 1)
    sample = row_to_sample(row)
    said = text.replace(TRUTH, format_changes(sample.changes))
    right = float(TEXTS[text] >= 5)
    assert process_results(row, [said])["tacc"] == right
    assert row_values([said], sample)["tacc"] == right


def test_a_known_prompt_that_begins_nothing_is_judged_to_the_letter() -> None:
    rest = f"2: cyan</think>{RIGHT}"
    assert star_reward([rest], [TRUTH], **{PROMPT_END: [""]}) == [5]
    assert star_reward([rest], [TRUTH], prompts=["What was changed?"]) == [5]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("reasoning", ["2: cyan", "<think>2: cyan</think>", "<think>2: cyan"])
def test_reasoning_that_a_tokenizer_told_apart_counts(name: str, reasoning: str) -> None:
    """As TRL hands completions over where the tokenizer has a response template."""
    message = [{"role": "assistant", "content": RIGHT, name: reasoning}]
    for end in ({}, {PROMPT_END: ["<think>\n"]}, {PROMPT_END: [""]}):
        assert star_reward([message], [TRUTH], **end) == [6]


@pytest.mark.parametrize(
    "completion",
    [
        *([], {}, None, 3, b"bytes", [None], [[]], [{}], ["text"]),
        *([{"content": content}] for content in (None, 3, [None], ["text"], [{"text": 5}], {})),
        [{"role": "assistant", "content": "", "reasoning_content": ["a"]}],
    ],
)
def test_whatever_a_completion_is_the_reward_does_not_raise(completion: Any) -> None:
    assert star_reward([completion], [TRUTH]) == [-1]


def test_the_table_of_completions_is_read_as_it_was_rewarded() -> None:
    message = [{"role": "assistant", "content": f"cyan</think>{RIGHT}"}]
    whole = f"<think>\ncyan</think>{RIGHT}"
    assert logged_text({"completion": message, PROMPT_END: "<think>\n"}) == whole
    assert logged_text({"completion": message, PROMPT_END: ""}) == message[0]["content"]
    assert logged_text({"completion": message}) == text_of(message)
