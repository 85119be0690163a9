"""Where each row's completions stand in a predictions file, so that files of any size are read."""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from star_r1.errors import UserError
from star_r1.evaluate.predictions import read_line, repeated, unknown

Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The lines that begin in some range of bytes of a predictions file, in its order.

    Attributes:
        ids: the row of each completion.
        places: of each completion its number, the offset and bytes of its line in the file, and
            its line, counted from 1 in this part; int64 of shape (completions, 4).
        faults: of each broken line its number in this part, and what is wrong.
        lines: how many there are, empty and broken ones too.
    """

    ids: list[str]
    places: Integers
    faults: list[tuple[int, str]]
    lines: int


def read_part(path: Path, start: int, stop: int) -> Part:
    """Read the lines that begin at the bytes ``start`` to ``stop - 1``; texts are not kept."""
    ids: list[str] = []
    places = array("q")
    faults: list[tuple[int, str]] = []
    number = 0
    with path.open("rb") as file:
        offset = 0
        if start:
            # The line that began before: nothing but its end where that stands at start - 1. Of
            # one that goes on beyond stop no more is read, lest each part of it reads all the rest.
            file.seek(start - 1)
            before = file.readline(stop - start + 1)
            offset = file.tell() if before.endswith(b"\n") else stop
        while offset < stop and (line := file.readline()):
            number += 1
            if not line.isspace():
                try:
                    completion = read_line(line)
                except ValueError as error:
                    faults.append((number, str(error)))
                else:
                    ids.append(completion.id)
                    places.extend((completion.number, offset, len(line), number))
            offset += len(line)
    return Part(ids, np.array(places, dtype=np.int64).reshape(-1, 4), faults, number)


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Where the completions of each row of a dataset stand in a predictions file.

    Attributes:
        counts: completions of each row, int64 of shape (rows,).
        spans: offset and bytes of the line of each completion, int64 of shape (completions, 2), by
            row, then by number.
        faults: what is wrong with each broken line, ``FILE:LINE: ...``, in order. A line of a row
            that is not in the dataset, or of a completion that was there before, is broken.
    """

    counts: Integers
    spans: Integers
    faults: tuple[str, ...]


def read_index(path: Path, rows: Mapping[str, int]) -> Index:
    """The index of a whole predictions file, by this process.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        part = read_part(path, 0, path.stat().st_size)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a predictions file") from None
    return build_index(path, [part], rows)


def build_index(path: Path, parts: Iterable[Part], rows: Mapping[str, int]) -> Index:
    """Put the parts of a predictions file together.

    Args:
        path: of the file, for the messages.
        parts: all of them, in order.
        rows: id of each row -> its number in the dataset.
    """
    faults: list[tuple[int, str]] = []
    tables = [np.empty((0, 5), dtype=np.int64)]
    before = 0
    for part in parts:
        faults += [(before + line, text) for line, text in part.faults]
        own = np.array([rows.get(id, -1) for id in part.ids], dtype=np.int64)
        table = np.column_stack([own, part.places])
        table[:, _LINE] += before
        for place in np.flatnonzero(own < 0).tolist():
            faults.append((int(table[place, _LINE]), unknown(part.ids[place])))
        tables.append(table[own >= 0])
        before += part.lines
    found = np.concatenate(tables)
    del tables
    # Of two lines for one completion the earlier one counts.
    found = found[np.lexsort((found[:, _LINE], found[:, _NUMBER], found[:, _ROW]))]
    again = np.zeros(len(found), dtype=bool)
    again[1:] = (found[1:, :_OFFSET] == found[:-1, :_OFFSET]).all(axis=1)
    if again.any():
        ids = list(rows)
        for row, number, _, _, line in found[again].tolist():
            faults.append((line, repeated(ids[row], number)))
        found = found[~again]
    return Index(
        np.bincount(found[:, _ROW], minlength=len(rows)),
        found[:, _OFFSET:_LINE],
        tuple(f"{path}:{line}: {text}" for line, text in sorted(faults)),
    )


_ROW, _NUMBER, _OFFSET, _LINE = 0, 1, 2, 4
"""Columns of the tables; the bytes of a line stand between the last two."""
