"""The folder of an evaluation that goes on: its settings, and its answers line by line.

Answers are read and written one at a time: all that is held of them is which there are.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from star_r1.errors import UserError
from star_r1.evaluate.index import read_index
from star_r1.evaluate.predictions import BrokenLines, Completion, read_line, repeated
from star_r1.files import growing, write_atomic
from star_r1.provenance import provenance

_FAILED: Final = b'"status": "failed"'
_PIECE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Journal:
    """An evaluation's folder, as ``open_journal`` found it.

    Attributes:
        folder: which holds run.json and predictions.jsonl.
        answered: by id, the numbers of the completions that are there and did not fail.
        failed: ids at which an earlier run failed.
        left_out: names of parameters that an endpoint refused in an earlier run.
    """

    folder: Path
    answered: dict[str, tuple[int, ...]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)

    @property
    def predictions(self) -> Path:
        """The file of answers."""
        return self.folder / "predictions.jsonl"

    def note(self, left_out: Iterable[str]) -> None:
        """Record what an endpoint refused to be asked."""
        self.left_out.update(left_out)
        record = self.folder / "run.json"
        about = json.loads(record.read_bytes()) | {"left_out": sorted(self.left_out)}
        write_atomic(record, json.dumps(about, indent=1) + "\n")

    def settle(self) -> None:
        """Leave one whole line for each completion: the last one where earlier ones failed."""
        if self.predictions.exists():
            _cut_half_a_line(self.predictions)
            _drop_failures(self.predictions)


def open_journal(
    out: Path, settings: Mapping[str, Any], identity: Mapping[str, Any], keys: Mapping[str, str]
) -> Journal:
    """Begin a run in ``out``, or go on with the one there.

    What a killed process has left is taken out of predictions.jsonl: half a last line, and lines
    with the status ``failed`` whose question was asked again since.

    Args:
        out: exists.
        settings: for run.json, also where those of the run there were others: its data may have
            been moved.
        identity: for run.json; must equal that of the run there, but for ``rows``, whose answered
            part must be among the present ones.
        keys: id -> the key that its completions must bear.

    Raises:
        UserError: the folder is damaged, or holds a run with other settings.
    """
    record, journal = out / "run.json", Journal(out)
    about = {**settings, "identity": identity, **provenance()}
    if not record.exists():
        if journal.predictions.exists():
            raise UserError(
                f"{journal.predictions} is there without run.json; choose another --out"
            )
        write_atomic(record, json.dumps(about, indent=1) + "\n")
        return journal
    try:
        there = json.loads(record.read_bytes())
        before = there["identity"]
        changed = {
            name: f"{name} {before.get(name)} (now {identity.get(name)})"
            for name in {**identity, **before}
            if before.get(name) != identity.get(name)
        }
        journal.left_out.update(map(str, there.get("left_out", ())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{record} is damaged; choose another --out") from None
    grown = changed.pop("rows", None)
    if changed:
        raise UserError(
            f"{out} holds a run with other settings: {', '.join(changed.values())}; choose another "
            "--out"
        )
    journal.settle()
    _find_answers(journal, keys)
    if grown:
        (out / "metrics.json").unlink(missing_ok=True)
    if grown or settings != {name: there.get(name) for name in settings}:
        now = {**there, **(about if grown else settings)}
        write_atomic(record, json.dumps(now, indent=1) + "\n")
    return journal


def _find_answers(journal: Journal, keys: Mapping[str, str]) -> None:
    """Note which answers are there; raise a UserError where one of them is not of this run."""
    numbers: dict[str, tuple[int, ...]] = {}
    faults = []
    foreign = None
    for place, line in enumerate(_lines(journal.predictions), 1):
        if line.isspace():
            continue
        try:
            completion = read_line(line)
            id = completion.id
            if completion.number in numbers.get(id, ()):
                raise ValueError(repeated(id, completion.number))
        except ValueError as error:
            faults.append(f"{journal.predictions}:{place}: {error}")
            continue
        numbers[id] = (*numbers.get(id, ()), completion.number)
        if completion.status == "failed":
            journal.failed.add(id)
        else:
            journal.answered[id] = (*journal.answered.get(id, ()), completion.number)
        if foreign is None and completion.key != keys.get(id):
            foreign = id
    if faults:
        raise BrokenLines(journal.predictions, faults)
    if foreign is not None:
        raise UserError(
            f"{journal.predictions}: the answer to {foreign!r} was given to another prompt or "
            "picture, or by another model; choose another --out"
            if foreign in keys
            else f"{journal.folder} holds answers to rows that are left out now, such as "
            f"{foreign!r}; ask for them too (--limit, --views, --data), or choose another --out"
        )


def append(file: FileIO, completion: Completion) -> None:
    """Write a line; unbuffered, so that closing the file does not try again what cannot be.

    Raises:
        UserError: the disk is full.
    """
    rest = completion.to_json().encode() + b"\n"
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise UserError(
            f"cannot write {file.name}: {error.strerror}; make room and run it again"
        ) from None


class Written(Mapping[str, tuple[Completion, ...]]):
    """The completions in a predictions file by id and number, read when they are asked for.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "predictions.jsonl"
    >>> _ = path.write_text(Completion("b", "B").to_json() + "\\n")
    >>> with path.open("rb", buffering=0) as file:
    ...     written = Written(path, file, ["a", "b"])
    ...     [one.text for one in written["b"]], list(written), written.get("a", ())
    (['B'], ['b'], ())
    """

    def __init__(self, path: Path, file: FileIO, ids: Iterable[str]) -> None:
        """``file``: ``path``, open as long as this is in use; ``ids``: of all rows."""
        self._file = file
        self._places = {id: place for place, id in enumerate(ids)}
        index = read_index(path, self._places)
        if index.faults:
            raise BrokenLines(path, index.faults)
        self._starts, self._spans = np.concatenate([[0], np.cumsum(index.counts)]), index.spans

    def __getitem__(self, id: str) -> tuple[Completion, ...]:
        place = self._places[id]
        spans = self._spans[self._starts[place] : self._starts[place + 1]].tolist()
        if not spans:
            raise KeyError(id)
        return tuple(read_line(os.pread(self._file.fileno(), size, start)) for start, size in spans)

    def __iter__(self) -> Iterator[str]:
        counts = np.diff(self._starts)
        return (id for id, place in self._places.items() if counts[place])

    def __len__(self) -> int:
        return int(np.count_nonzero(np.diff(self._starts)))


@dataclass(slots=True)
class Totals:
    """What became of the completions of a file.

    Attributes:
        prompt_tokens, completion_tokens: of all of them.
        statuses: how many have each of ``predictions.STATUSES``.
        errors: how many failed by each.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


def add_up(predictions: Path) -> Totals:
    """Read all completions of a file once, and keep none."""
    totals = Totals()
    for completion in map(read_line, _lines(predictions)):
        totals.prompt_tokens += completion.prompt_tokens
        totals.completion_tokens += completion.completion_tokens
        totals.statuses[completion.status] += 1
        if completion.status == "failed":
            totals.errors[completion.error] += 1
    return totals


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; choose another --out") from None


def _cut_half_a_line(path: Path) -> None:
    """What a process that was killed may have left; only the last line can be one."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        place, whole = end, 0
        while place > 0:
            start = max(place - _PIECE, 0)
            file.seek(start)
            if (last := file.read(place - start).rfind(b"\n")) >= 0:
                whole = start + last + 1
                break
            place = start
        if whole < end:
            file.truncate(whole)


def _drop_failures(path: Path) -> None:
    """Take out the lines that failed before a later one of the same completion."""
    failed = {_name(line) for line in _lines(path) if _FAILED in line}
    if not failed:
        return
    last = {}
    superseded = False
    for place, line in enumerate(_lines(path)):
        if (name := _name(line)) in failed:
            superseded |= name in last
            last[name] = place
    if superseded:
        with growing(path) as file:
            for place, line in enumerate(_lines(path)):
                if _FAILED not in line or last[_name(line)] == place:
                    file.write(line)


def _name(line: bytes) -> object:
    """Of which completion a line is; of none if it is damaged, which the reader says."""
    try:
        row = json.loads(line)
        return row["id"], row.get("number", 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return line
