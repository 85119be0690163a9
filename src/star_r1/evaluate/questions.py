"""Rows of a dataset -> questions: which prompt, which pictures, and the key of each."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from PIL import Image, UnidentifiedImageError

from star_r1.data.dataset import SAMPLE_COLUMNS, row_to_sample
from star_r1.data.marks import mark
from star_r1.errors import UserError
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
        for picture in _see(row.__getitem__, sample, prompt)
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
        UserError: a row is damaged: no two pictures in it, no prompt with two places for them, or
            an id that another row has.
    """
    shown = [row_to_sample(row) for row in examples]
    before = digest(picture.tobytes() for row in examples for picture in row["images"])
    asked = rows.select_columns([*SAMPLE_COLUMNS, "prompt", "images"]).with_format("arrow")
    prints: dict[str, str] = {}
    for table in asked.iter(batch_size=64):
        for row in table.to_pylist():
            if fault := _fault(row, prints):
                raise UserError(f"row {row['id']!r}: {fault}; make or import the data again")
            parts = [json.dumps([row["id"], row["prompt"]]).encode()]
            parts += [picture["bytes"] for picture in row["images"]]
            if not _stands_in_data(prompt, shown):
                messages = _messages(row, row_to_sample(row), prompt, shown)
                parts += [json.dumps(messages).encode(), before.encode()]
            prints[row["id"]] = digest(parts)
    return prints


def _fault(row: Mapping[str, Any], before: Collection[str]) -> str:
    """Why a row cannot be asked; empty if it can."""
    if row["id"] in before:
        return "another row has this id too"
    pictures = row["images"] or ()
    if len(pictures) != 2 or not all(picture and picture["bytes"] for picture in pictures):
        return "its two pictures are not in the file"
    parts = [part for message in row["prompt"] or () for part in message["content"] or ()]
    if [part["type"] for part in parts].count("image") != 2:
        return "its prompt has no places for two pictures"
    return ""


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
        return [*self.before, *_see(self._read, self.sample, self.prompt)]

    def _read(self, column: str) -> Any:
        return self.rows[self.place][column]


def _see(read: Callable[[str], Any], sample: Sample, prompt: PromptName) -> Sequence[Any]:
    """The two pictures as the prompt shows them: without a table the first bears the indices.

    ``read`` gives a column of the row; that of the pictures decodes them.
    """
    try:
        initial, final = (picture.convert("RGB") for picture in read("images"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Its own words name an object of Python's.
        why = "no image" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(
            f"row {sample.id!r}: a picture of it is broken ({why}); 'star-r1 verify' names all "
            "such rows; make or import the data again"
        ) from None
    if not has_table(prompt):
        initial = mark(initial, sample.initial, sample.rig, "center")
    return initial, final
