"""Rows of a dataset -> questions: which prompt, which pictures, and the key of each."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any, Final

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.data.marks import mark
from star_r1.data.pictures import check_pictures, read_pair
from star_r1.errors import UserError
from star_r1.evaluate.predictor import Question
from star_r1.tvr.prompt import PromptName, build_prompt, has_table
from star_r1.tvr.sample import Sample

ASKED_COLUMNS: Final = (*SAMPLE_COLUMNS, "prompt", "images")
"""What ``ask`` and ``fingerprint`` need of a row."""


class Rows:
    """The rows of a dataset that are asked; only those that are being read are in memory.

    They can be gone through as often as wanted, each with ``ASKED_COLUMNS``.
    """

    def __init__(
        self, data: Path, views: Sequence[str] | None = None, limit: int | None = None
    ) -> None:
        """Count them.

        Args:
            data: a dataset folder, as ``star-r1 generate`` writes it.
            views: only rows with these final views; None for all.
            limit: only the first so many of those rows; None for all.

        Raises:
            UserError: the data cannot be read, there are no rows, or none with one of ``views``.
        """
        self._data, self._views = data, views
        self._columns: tuple[str, ...] = ASKED_COLUMNS
        counts = Counter(row["view"] for row in read_columns(data, ["id", "view"]))
        for view in views or ():
            if view not in counts:
                raise UserError(
                    f"{data}: no row has view {view!r}; it holds {', '.join(sorted(counts))}"
                )
        found = sum(n for view, n in counts.items() if views is None or view in views)
        self._count = found if limit is None else min(limit, found)
        if not self._count:
            raise UserError(f"{data}: no rows in it; generate it again")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rows = read_columns(self._data, self._columns)
        if (views := self._views) is not None:
            rows = (row for row in rows if row["view"] in views)
        return islice(rows, self._count)

    def without_pictures(self) -> "Rows":
        """The same rows with ``SAMPLE_COLUMNS``, much faster to read."""
        some = copy(self)
        some._columns = SAMPLE_COLUMNS
        return some


def ask(
    rows: Iterable[Mapping[str, Any]],
    keys: Mapping[str, str],
    prompt: PromptName = "think",
    examples: Sequence[Mapping[str, Any]] = (),
    samples_per_prompt: int = 1,
    done: Mapping[str, Collection[int]] | None = None,
    failed: Collection[str] = (),
) -> Iterator[Question]:
    """The questions of a run, without those that are answered, as they are wanted.

    Args:
        rows: ``Rows``, or those of ``data.dataset.load``; at least ``ASKED_COLUMNS`` of them.
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
    for row in rows:
        answered = (done or {}).get(row["id"], ())
        numbers = tuple(n for n in range(samples_per_prompt) if n not in answered)
        if not numbers:
            continue
        sample = row_to_sample(row)
        yield Question(
            row["id"],
            _messages(row, sample, prompt, shown),
            _Pictures({"id": row["id"], "images": row["images"]}, sample, prompt, pictures),
            sample,
            keys[row["id"]],
            numbers,
            row["id"] in failed,
        )


def fingerprint(
    rows: Iterable[Mapping[str, Any]],
    prompt: PromptName = "think",
    examples: Sequence[Mapping[str, Any]] = (),
) -> dict[str, str]:
    """Id -> a short fingerprint of all that a model is shown when the row is asked.

    Args:
        rows, prompt, examples: as ``ask`` takes them.

    Raises:
        UserError: a row is damaged: no two pictures in it that can be used.
    """
    shown = [row_to_sample(row) for row in examples]
    before = digest(picture.tobytes() for row in examples for picture in row["images"])
    prints: dict[str, str] = {}
    for row in rows:
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
        self, row: Mapping[str, Any], sample: Sample, prompt: PromptName, before: Sequence[Any]
    ) -> None:
        self.row, self.sample, self.prompt, self.before = row, sample, prompt, before

    def __call__(self) -> Sequence[Any]:
        return [*self.before, *_see(read_pair(self.row), self.sample, self.prompt)]


def _see(pictures: Sequence[Any], sample: Sample, prompt: PromptName) -> Sequence[Any]:
    """The two pictures as the prompt shows them: without a table the first bears the indices."""
    initial, final = pictures
    if not has_table(prompt):
        initial = mark(initial, sample.initial, sample.rig, "center")
    return initial, final
