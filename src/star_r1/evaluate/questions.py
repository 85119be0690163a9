"""Rows of a dataset -> questions: which prompt, which pictures, and the key of each."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from star_r1.data.dataset import SAMPLE_COLUMNS, row_to_sample
from star_r1.data.marks import mark
from star_r1.data.pictures import check_pictures, read_pair
from star_r1.evaluate.predictor import Question
from star_r1.tvr.prompt import PromptName, build_prompt, has_table
from star_r1.tvr.sample import Sample


def ask(
    rows: Any,
    keys: Mapping[str, str],
    prompt: PromptName = "think",
    examples: Sequence[Mapping[str, Any]] = (),
    samples_per_prompt: int = 1,
    done: Mapping[str, Collection[int]] | None = None,
    failed: Collection[str] = (),
) -> list[Question]:
    """The questions of a run, without those that are answered.

    Args:
        rows: from ``data.dataset.load``.
        keys: from ``make_keys``.
        prompt: the variant of the prompt; ``think`` is taken from the rows as it stands there.
        examples: rows that are shown with their answers first, see ``examples.choose_examples``.
        samples_per_prompt: completions wanted a row, at least 1.
        done: by id, the numbers that are answered; None for none.
        failed: ids of those that were asked in vain.

    Raises:
        UserError: a row is damaged, or its picture cannot be marked.
    """
    shown = [row_to_sample(row) for row in examples]
    pictures = [
        picture
        for row, sample in zip(examples, shown, strict=True)
        for picture in _see(row["images"], sample, prompt)
    ]
    questions = []
    for place, row in enumerate(rows.select_columns([*SAMPLE_COLUMNS, "prompt"])):
        answered = (done or {}).get(row["id"], ())
        numbers = tuple(n for n in range(samples_per_prompt) if n not in answered)
        if not numbers:
            continue
        sample = row_to_sample(row)
        questions.append(
            Question(
                row["id"],
                _messages(row, sample, prompt, shown),
                _Pictures(rows, place, sample, prompt, pictures),
                sample,
                keys[row["id"]],
                numbers,
                row["id"] in failed,
            )
        )
    return questions


def fingerprint(
    rows: Any, prompt: PromptName = "think", examples: Sequence[Mapping[str, Any]] = ()
) -> dict[str, str]:
    """Id -> a short fingerprint of all that a model is shown when the row is asked.

    Args:
        rows, prompt, examples: as ``ask`` takes them.

    Raises:
        UserError: a row is damaged: no two pictures in it that can be used.
    """
    shown = [row_to_sample(row) for row in examples]
    before = digest(picture.tobytes() for row in examples for picture in row["images"])
    asked = rows.select_columns([*SAMPLE_COLUMNS, "prompt", "images"]).with_format("arrow")
    prints: dict[str, str] = {}
    for table in asked.iter(batch_size=64):
        for row in table.to_pylist():
            parts = [json.dumps([row["id"], row["prompt"]]).encode()]
            parts += check_pictures(row)
            if not _stands_in_data(prompt, shown):
                messages = _messages(row, row_to_sample(row), prompt, shown)
                parts += [json.dumps(messages).encode(), before.encode()]
            prints[row["id"]] = digest(parts)
    return prints


def _messages(
    row: Mapping[str, Any], sample: Sample, prompt: PromptName, shown: Sequence[Sample]
) -> Any:
    """The conversation of a question."""
    return row["prompt"] if _stands_in_data(prompt, shown) else build_prompt(sample, prompt, shown)


def _stands_in_data(prompt: PromptName, shown: Sequence[Sample]) -> bool:
    return prompt == "think" and not shown


def make_keys(rows: Mapping[str, str], identity: Mapping[str, Any]) -> dict[str, str]:
    """Id -> the key of its completions.

    Args:
        rows: from ``fingerprint``.
        identity: of the predictor and of how it is asked, as JSON has it.
    """
    base = json.dumps(identity, sort_keys=True).encode()
    return {id: digest((base, row.encode())) for id, row in rows.items()}


def digest(parts: Iterable[bytes]) -> str:
    """A short fingerprint: it keeps a run from mixing the answers of two models or datasets."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


class _Pictures:
    """Decodes the pictures of a question when they are asked for."""

    def __init__(
        self, rows: Any, place: int, sample: Sample, prompt: PromptName, before: Sequence[Any]
    ) -> None:
        self.rows, self.place, self.sample = rows, place, sample
        self.prompt, self.before = prompt, before

    def __call__(self) -> Sequence[Any]:
        seen = read_pair(self.rows[self.place])
        return [*self.before, *_see(seen, self.sample, self.prompt)]


def _see(pictures: Sequence[Any], sample: Sample, prompt: PromptName) -> Sequence[Any]:
    """The two pictures as the prompt shows them: without a table the first bears the indices."""
    initial, final = pictures
    if not has_table(prompt):
        initial = mark(initial, sample.initial, sample.rig, "center")
    return initial, final
