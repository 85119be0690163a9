"""Finished evaluations read again: their answers row by row, over what are still the data of then.

Everything that looks at a run once more goes through here: ``compare``, ``analyze``, ``explore``,
``report``. Neither the texts nor the rows are kept, so that runs of any size are read.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from star_r1.errors import UserError
from star_r1.evaluate.index import Index, read_index
from star_r1.evaluate.predictions import BrokenLines, Completion, read_line
from star_r1.evaluate.runs import Evaluation, read_evaluation
from star_r1.evaluate.scoring import Record, Scorer
from star_r1.intervals import Integers
from star_r1.metrics import Rows, Scores
from star_r1.tvr.answer import Answer
from star_r1.tvr.sample import Sample

_PREDICTIONS: Final = "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class Said:
    """What one run said to a row: its completions, by number, each with its answer."""

    completions: tuple[Completion, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """A row of the data that some run answered.

    Attributes:
        place: its number in the data.
        row: the columns that were asked for.
        sample: of the row.
        said: by each run, None where it did not answer.
    """

    place: int
    row: Mapping[str, Any]
    sample: Sample
    said: tuple[Said | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRun:
    """One evaluation, judged anew.

    Attributes:
        run: with the metrics and intervals that its answers have now: the values are those that it
            came with, intervals of old were made in another way.
        keys: (rows,): a fingerprint of each row's sample: the same in two runs where they were
            asked the same, whatever the folder of the data or the size of the pictures.
        views: (rows,): of the final pictures.
        rows: what each adds to the metrics, in the order of the data.
        trance: the same by setting; empty where objects do not move.
    """

    run: Evaluation
    keys: Integers
    views: NDArray[np.str_]
    rows: Rows
    trance: dict[str, Rows]


def read_finished(folder: Path) -> Evaluation:
    """Read the folder of an evaluation.

    Raises:
        UserError: it is missing, unfinished, something else or damaged.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    if not (folder / "metrics.json").exists():
        if (folder / "run.json").exists():
            raise UserError(
                f"{folder}: an unfinished evaluation; run its 'star-r1 evaluate' command again"
            )
        raise UserError(f"{folder}: no metrics.json in it; give the --out of 'star-r1 evaluate'")
    return read_evaluation(folder)


class Answers:
    """The answers of some finished evaluations over one dataset."""

    def __init__(self, runs: Sequence[Evaluation], data: Path) -> None:
        """Find out where the answers are; ``rows`` reads them.

        Args:
            runs: any number, none for the rows alone.
            data: the folder where the data of all of them are now.

        Raises:
            UserError: data or predictions are missing or damaged, or do not belong together.
        """
        self._runs, self._data = tuple(runs), data
        rows = self._number_rows()
        self._indices = [_find_answers(run, rows) for run in self._runs]
        self._scorers = [
            Scorer(int(index.counts.max(initial=1)), trance=bool(run.trance))
            for run, index in zip(self._runs, self._indices, strict=True)
        ]
        answered = [index.counts > 0 for index in self._indices]
        self._shown = np.any(answered, axis=0) if answered else np.ones(len(rows), dtype=bool)
        self._keys: list[list[int]] = [[] for _ in self._runs]
        self._views: list[list[str]] = [[] for _ in self._runs]
        self.judged: tuple[JudgedRun, ...] = ()

    def __len__(self) -> int:
        """The rows that some run answered; without runs, all."""
        return int(np.count_nonzero(self._shown))

    def rows(self, columns: Sequence[str] = ()) -> Iterator[AnsweredRow]:
        """The answered rows in the order of the data, each completion parsed once.

        Only when the last one is out is it known whether the data are still those of then; the runs
        are in ``judged`` from there on.

        Args:
            columns: beside ``dataset.SAMPLE_COLUMNS``.

        Raises:
            UserError: a row is damaged; at the end: the answers of a run do not have the metrics
                that it came with.
        """
        from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample

        readers = [
            _read_answers(run.folder / _PREDICTIONS, index)
            for run, index in zip(self._runs, self._indices, strict=True)
        ]
        wanted = [*SAMPLE_COLUMNS, *columns]
        for place, row in enumerate(read_columns(self._data, wanted)):
            found = [next(reader) for reader in readers]
            if not self._shown[place]:
                continue
            sample = row_to_sample(row)
            key = _fingerprint(*(row[column] for column in SAMPLE_COLUMNS))
            said: list[Said | None] = []
            for number, completions in enumerate(found):
                if not completions:
                    said.append(None)
                    continue
                answers = self._scorers[number].add(sample, completions)
                self._keys[number].append(key)
                self._views[number].append(sample.view)
                said.append(Said(completions, answers))
            yield AnsweredRow(place, row, sample, tuple(said))
        self.judged = tuple(map(self._judge, range(len(self._runs))))

    def _number_rows(self) -> dict[str, int]:
        from star_r1.data.dataset import read_columns

        try:
            ids = [row["id"] for row in read_columns(self._data, ["id"])]
        except UserError as error:
            if not self._runs:
                raise
            hint = "; or call this where 'star-r1 evaluate' was called"
            raise UserError(
                f"{self._runs[0].folder}: its data cannot be read: {error}"
                f"{'' if self._data.is_absolute() else hint}"
            ) from None
        return {id: place for place, id in enumerate(ids)}

    def _judge(self, number: int) -> JudgedRun:
        run, scorer = self._runs[number], self._scorers[number]
        record = scorer.record()
        _check(run, record, self._data)
        groups: Scores = {group: record[group] for group in record if group in run.scores}
        return JudgedRun(
            replace(
                run,
                scores=groups,
                trance=record.get("trance", {}),
                samples=record.get("samples", {}),
            ),
            np.array(self._keys[number], dtype=np.int64),
            np.array(self._views[number]),
            scorer.star.rows,
            {setting: tally.rows for setting, tally in scorer.trance.items()},
        )


def _find_answers(run: Evaluation, rows: Mapping[str, int]) -> Index:
    """Where the completions of each row are.

    Raises:
        UserError: lines are broken or of other rows, or rows are missing.
    """
    index = read_index(run.folder / _PREDICTIONS, rows)
    if index.faults:
        raise BrokenLines(run.folder / _PREDICTIONS, index.faults)
    if (answered := int(np.count_nonzero(index.counts))) != run.n:
        raise UserError(
            f"{run.folder}: {answered} of {run.n} rows answered; "
            "run its 'star-r1 evaluate' command again"
        )
    return index


def _read_answers(path: Path, index: Index) -> Iterator[tuple[Completion, ...]]:
    """The completions of each row of the data, by number; none of rows that were not asked."""
    spans = iter(index.spans.tolist())
    with path.open("rb", buffering=0) as file:
        for count in index.counts.tolist():
            places = (next(spans) for _ in range(count))
            yield tuple(read_line(os.pread(file.fileno(), size, at)) for at, size in places)


def _fingerprint(*texts: str) -> int:
    """64 bits, signed."""
    digest = hashlib.sha256(json.dumps(texts).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _check(run: Evaluation, record: Record, data: Path) -> None:
    """Raise a UserError unless this is what its metrics.json says, but for intervals.

    The data's folder may hold another dataset by now: the ids would fit, and nothing else. Metrics
    alone do not tell where a run is never right, as a baseline that says nothing, over data that
    are balanced alike; files of old have nothing else.
    """
    why = ""
    if run.truth not in ("", record["truth"]):
        why = "the rows have other scenes, changes or views than then"
    trance = {} if not run.trance else record.get("trance", {})
    pairs = [("", run.scores, record)]
    pairs += [(f"{name} ", scores, trance.get(name, {})) for name, scores in run.trance.items()]
    for setting, before, now in pairs:
        for group, metrics in before.items():
            for metric, old in metrics.items():
                new = now.get(group, {}).get(metric, {"value": None, "n": 0})
                apart = abs((new["value"] or 0.0) - (old["value"] or 0.0))
                if not why and (new["n"] != old["n"] or apart > 1e-9):
                    why = (
                        f"{setting}{metric} ({group}) is {new['value'] or 0.0:.4f} over {new['n']} "
                        f"rows, metrics.json says {old['value'] or 0.0:.4f} over {old['n']}"
                    )
    if why:
        raise UserError(
            f"{run.folder}: its answers to {data}: {why}; these are not the data or answers of "
            "then: evaluate it again"
        )
