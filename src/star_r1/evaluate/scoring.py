"""Answers of a file against the truth of a dataset: the metrics."""

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from rich.console import Console

from star_r1.errors import UserError
from star_r1.evaluate.index import Index, Integers, Part, build_index, read_part
from star_r1.evaluate.predictions import (
    SHOWN_FAULTS,
    STATUSES,
    BrokenLines,
    Completion,
    read_line,
    shorten,
)
from star_r1.evaluate.sampled import SampledTally
from star_r1.metrics import Tally, judge
from star_r1.progress import progress
from star_r1.trance_metrics import SETTINGS, TranceTally
from star_r1.tvr.answer import Answer, parse_answer
from star_r1.tvr.sample import Sample

MetricSet: TypeAlias = Literal["star", "basic", "event", "view"]
"""STAR-R1's metrics, or TRANCE's in one of its settings."""
Unanswered: TypeAlias = Literal["fail", "wrong", "leave-out"]
"""What becomes of rows that a file does not answer: an error, a wrong answer, nothing."""
Record: TypeAlias = dict[str, Any]
"""What a metrics.json holds: groups, and ``metrics.BESIDE_GROUPS``."""

_BYTES_A_PROCESS: Final = 16 << 20
"""Of predictions: more are read by several processes, which take a second to start."""
_MOST_PROCESSES: Final = 4
"""Each takes some 200 MB."""
_BYTES_A_PART: Final = 8 << 20
_FILES_A_PART: Final = 64

T = TypeVar("T")
Result = TypeVar("Result")


def score_file(
    data: Path,
    predictions: Path,
    metrics: MetricSet = "star",
    unanswered: Unanswered = "fail",
    processes: int | None = None,
) -> Record:
    """The metrics of a predictions file over a dataset.

    The file should answer every row of the dataset, once or K times: a part of it has a score that
    compares with nothing. (``star-r1 evaluate`` with ``--limit`` or ``--views`` scores the rows
    that it ran, in its own metrics.json.) Neither the file nor the dataset need fit into memory.

    Args:
        data: a dataset folder, as ``star-r1 generate`` writes it.
        predictions: JSON lines ``{"id": ..., "completion": ...}``, see
            ``predictions.read_completions``.
        metrics: the 11 of STAR-R1, or those of TRANCE's evaluator.
        unanswered: what becomes of rows without a completion, or with fewer than others, and of
            broken lines. ``wrong``: the missing completions count as empty ones.
            ``leave-out``: the rows are not scored. With both, broken lines are passed over, and
            stderr says how many lines and rows that were.
        processes: that share the work; None for one, and for large files as many as there are
            cores, at most four. The result does not depend on it.

    Returns:
        group -> metric -> ``{"value", "ci95", "n", "scenes"}``, see ``metrics.score`` and
        ``trance_metrics.score_trance``; with the 11 also what stands beside them in
        ``score_completions``, but for ``trance``; ``answers`` then has ``not_asked`` too, if any.

    Raises:
        UserError: the dataset or the file is missing or damaged; two rows have one id; the file
            is of another kind, or no line of it answers a row. With ``fail`` also: lines are
            broken, which are all counted and the first ones named (``BrokenLines``); a row of the
            dataset has no prediction.
    """
    from star_r1.data.dataset import shards

    files = shards(data)
    size = _size(predictions)
    _refuse_other_kinds(predictions)
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        processes = max(1, min(cores, _MOST_PROCESSES, size // _BYTES_A_PROCESS))
    step = max(1, min(_FILES_A_PART, len(files) // (8 * processes)))
    pieces = [files[n : n + step] for n in range(0, len(files), step)]
    with _workers(processes) as work:
        rows, ends = _read_rows(data, pieces, work)
        index = _read_index(predictions, size, rows, work)
        several = max(1, int(index.counts.max(initial=0)))
        few = np.flatnonzero(index.counts < several)
        if unanswered == "fail":
            _refuse(data, predictions, index, few, several, rows)
        else:
            if unanswered == "leave-out" or index.faults:
                _refuse_nothing(data, predictions, index)
            _tell(predictions, index, len(few), len(rows), unanswered)
        del rows

        spans = np.concatenate([[0], np.cumsum(index.counts)])
        tasks = [
            _Piece(
                predictions,
                piece,
                index.counts[start:stop],
                index.spans[spans[start] : spans[stop]],
                several,
                metrics,
                unanswered,
            )
            for piece, start, stop in zip(pieces, ends[:-1], ends[1:], strict=True)
        ]
        scorer = Scorer(several, metrics)
        with progress("Scoring", ends[-1], "rows") as advance:
            # In order, so that sums and intervals do not depend on who is first.
            for task, part in zip(tasks, work(_score_piece, tasks), strict=True):
                scorer.extend(part)
                advance(len(task.counts))
    return scorer.record()


def score_completions(
    rows: Iterable[Mapping[str, Any]], completions: Mapping[str, Sequence[Completion]]
) -> Record:
    """What a metrics.json says of completions: one for each row, or K.

    Args:
        rows: of a dataset, with its ``SAMPLE_COLUMNS``; the pictures are not used, and rows
            without them are faster to read. A ``datasets.Dataset`` will do.
        completions: by the id of the row, the same number for each.

    Returns:
        The groups and metrics of ``metrics.score``, each metric a mean over the rows of the mean
        over their K completions. Beside the groups:

        - ``answers``: how many completions are ``answered``, ``empty``, ``cut_off``, ``refused``
          and ``failed``, and ``malformed``, the share that is not well-formed;
        - ``truth``: a fingerprint of the rows' scenes, changes and views, in any order;
        - ``samples``, where K is more than 1: pass@k and majority vote by group, see
          ``sampled.SampledTally``;
        - ``trance``, where objects move: setting -> scores, see ``trance_metrics.score_trance``.

    Raises:
        UserError: a row has no completion, or not as many as others; or it is no sample.
    """
    from star_r1.data.dataset import row_to_sample

    scorer: Scorer | None = None
    for sample in map(row_to_sample, rows):
        own = completions.get(sample.id, ())
        scorer = scorer or Scorer(max(1, len(own)), trance=True)
        scorer.add(sample, own)
    return (scorer or Scorer(1)).record()


class Scorer:
    """Scores rows that come one by one; those of several processes add up."""

    def __init__(self, several: int, metrics: MetricSet = "star", trance: bool = False) -> None:
        """Without rows yet.

        Args:
            several: the completions of each row.
            metrics: those of the record.
            trance: with TRANCE's in all settings beside them, where objects move.
        """
        self._several = several
        self.star = Tally()
        self._sampled = SampledTally(several)
        self._is_star = metrics == "star"
        settings = SETTINGS if trance else () if metrics == "star" else (metrics,)
        self.trance = {setting: TranceTally(setting) for setting in settings}
        self._statuses = Counter(dict.fromkeys(STATUSES, 0))
        self._not_asked = 0
        self._malformed = 0
        self._truth = 0

    def add(
        self, sample: Sample, completions: Sequence[Completion], missing: int = 0
    ) -> tuple[Answer, ...]:
        """Add one row, with as many completions as it lacks counted as empty ones.

        Returns:
            What its completions say.

        Raises:
            UserError: it has more or fewer completions than others.
        """
        if len(completions) + missing != self._several:
            raise UserError(
                f"row {sample.id!r} has {len(completions)} completions, not {self._several}; "
                "each row needs as many"
            )
        said = tuple(parse_answer(one.text, sample.vocabulary) for one in completions)
        answers = (*said, *(parse_answer("", sample.vocabulary) for _ in range(missing)))
        if self._is_star:
            judged = [judge(answer, sample) for answer in answers]
            self.star.add(sample, judged)
            if self._several > 1:
                self._sampled.add(sample, answers, [one.correct for one in judged])
            for completion in completions:
                self._statuses[completion.status] += 1
            self._not_asked += missing
            self._malformed += sum(not answer.well_formed for answer in said)
            row = f"{sample.id}\n{sample.view}\n{sample.scene_key}"
            digest = blake2b(row.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            self._truth += int.from_bytes(digest, "big")
        if not self._is_star or "position" in sample.vocabulary.attributes:
            for tally in self.trance.values():
                tally.add(sample, answers)
        return said

    def extend(self, others: "Scorer") -> None:
        """Add the rows of another one behind the rows here."""
        self.star.extend(others.star)
        self._sampled.extend(others._sampled)
        for setting, tally in self.trance.items():
            tally.extend(others.trance[setting])
        self._statuses.update(others._statuses)
        self._not_asked += others._not_asked
        self._malformed += others._malformed
        self._truth += others._truth

    def record(self) -> Record:
        """The metrics of the rows so far, see ``score_completions``."""
        trance = {setting: tally.scores() for setting, tally in self.trance.items()}
        if not self._is_star:
            ((_, scores),) = trance.items()
            return dict(scores)
        record: Record = dict(self.star.scores())
        malformed = self._malformed / max(self._statuses.total(), 1)
        not_asked = {"not_asked": self._not_asked} if self._not_asked else {}
        record["answers"] = {**self._statuses, **not_asked, "malformed": malformed}
        record["truth"] = f"{self._truth % 2**64:016x}"
        if self._several > 1:
            record["samples"] = self._sampled.scores()
        if trance and "position" in record["overall"]:
            record["trance"] = trance
        return record


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Some files of a dataset, and where the completions of their rows stand."""

    predictions: Path
    files: Sequence[Path]
    counts: Integers
    spans: Integers
    several: int
    metrics: MetricSet
    unanswered: Unanswered


class _Map(Protocol):
    """The builtin ``map``, or that of a pool of processes."""

    def __call__(self, work: Callable[[T], Result], tasks: Iterable[T], /) -> Iterator[Result]:
        """The results, in the order of the tasks."""


@contextmanager
def _workers(processes: int) -> Iterator[_Map]:
    """``map`` by so many processes."""
    if processes == 1:
        yield map
        return
    from star_r1.data.workers import open_pool

    with open_pool(processes) as pool:
        try:
            yield pool.map
        except BrokenProcessPool:
            raise UserError(
                "a worker process died, perhaps for lack of memory; try with more of it"
            ) from None


def _read_rows(
    data: Path, pieces: Sequence[Sequence[Path]], work: _Map
) -> tuple[dict[str, int], list[int]]:
    """The number of each row by its id, and where the rows of each piece end, from 0."""
    rows: dict[str, int] = {}
    ends = [0]
    for ids in work(_read_ids, pieces):
        for id in ids:
            if id in rows:
                raise UserError(f"{data}: two rows have the id {shorten(id)}; give each its own")
            rows[id] = len(rows)
        ends.append(len(rows))
    return rows, ends


def _read_ids(files: Sequence[Path]) -> list[str]:
    from star_r1.data.dataset import read_files

    return [row["id"] for row in read_files(files, ["id"])]


def _read_index(predictions: Path, size: int, rows: Mapping[str, int], work: _Map) -> Index:
    starts = range(0, size, _BYTES_A_PART)
    ranges = [(predictions, start, min(start + _BYTES_A_PART, size)) for start in starts]
    with progress(f"Reading {predictions.name}", len(ranges), "pieces of 8 MB") as advance:

        def parts() -> Iterator[Part]:
            for part in work(_read_range, ranges):
                yield part
                advance()

        return build_index(predictions, parts(), rows)


def _read_range(place: tuple[Path, int, int]) -> Part:
    return read_part(*place)


def _score_piece(piece: _Piece) -> Scorer:
    from star_r1.data.dataset import SCORED_COLUMNS, read_files, row_to_sample

    if multiprocessing.parent_process() is not None:
        # Of a worker: what it has loaded (datasets brings pandas) is not searched for garbage
        # again and again, which took a sixth of the time.
        gc.freeze()
    scorer = Scorer(piece.several, piece.metrics)
    spans = iter(piece.spans.tolist())
    with piece.predictions.open("rb", buffering=0) as file:
        rows = read_files(piece.files, SCORED_COLUMNS)
        for row, count in zip(rows, piece.counts.tolist(), strict=True):
            lines = [os.pread(file.fileno(), size, start) for start, size in islice(spans, count)]
            missing = piece.several - count
            if missing and piece.unanswered == "leave-out":
                continue
            scorer.add(row_to_sample(row, with_rig=False), [*map(read_line, lines)], missing)
    return scorer


def _size(predictions: Path) -> int:
    try:
        if not predictions.is_file() and predictions.exists():
            raise UserError(f"{predictions}: not a file; write the predictions into one")
        return predictions.stat().st_size
    except OSError as error:
        raise UserError(f"{predictions}: {error.strerror}; give a predictions file") from None


_OTHER_KINDS: Final = {
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it first",
    b"PAR1": "a parquet file; write JSON lines",
    b"\xff\xfe": "text in UTF-16; save it as UTF-8",
    b"\xfe\xff": "text in UTF-16; save it as UTF-8",
    b"[": "one JSON list; write one object a line, without brackets around them",
}
"""How files begin that are no JSON lines, and what they are."""


def _refuse_other_kinds(predictions: Path) -> None:
    """Say of a whole file what is wrong with it, rather than of each of its lines."""
    with predictions.open("rb") as file:
        start = file.read(64).lstrip()
    for magic, what in _OTHER_KINDS.items():
        if start.startswith(magic):
            raise UserError(f"{predictions}: {what}")


def _refuse_nothing(data: Path, predictions: Path, index: Index) -> None:
    """Raise a UserError where not a single line answers a row: there is nothing to score."""
    if not index.counts.any():
        why = f"the first of {len(index.faults)}: {index.faults[0]}" if index.faults else "empty"
        raise UserError(
            f"{predictions}: no line of it answers a row of {data} ({why}); write "
            '{"id": ..., "completion": ...} a line, with the ids of the data'
        )


def _refuse(
    data: Path,
    predictions: Path,
    index: Index,
    few: Integers,
    several: int,
    rows: Mapping[str, int],
) -> None:
    """Raise a UserError for broken lines, else for rows that are not answered, if any."""
    if index.faults:
        raise BrokenLines(predictions, index.faults)
    if len(few):
        first = shorten(next(islice(rows, int(few[0]), None)))
        what = (
            f"no prediction for {first}"
            if several == 1
            else f"{index.counts[few[0]]} of {several} completions for {first}"
        )
        raise UserError(
            f"{predictions}: {what}, in all for {len(few)} of the {len(rows)} rows of {data}; "
            "predict every row, or see --unanswered"
        )


def _tell(predictions: Path, index: Index, few: int, rows: int, unanswered: Unanswered) -> None:
    """Say on stderr what the score does not rest on."""
    console = Console(stderr=True)
    said = list(index.faults[:SHOWN_FAULTS])
    if len(index.faults) > SHOWN_FAULTS:
        said.append(f"and {len(index.faults) - SHOWN_FAULTS} more")
    if index.faults:
        said.append(f"{predictions}: {len(index.faults)} broken lines, passed over")
    if few:
        fate = "not scored" if unanswered == "leave-out" else "scored as unanswered"
        said.append(f"{few} of {rows} rows have no prediction, or too few: {fate}")
    for line in said:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
