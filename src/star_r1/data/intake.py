"""Other people's samples -> a dataset folder: each one checked, faults listed, resumable."""

import functools
import json
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from star_r1.data.card import Origin, write_card
from star_r1.data.counts import COUNTED, count
from star_r1.data.dataset import count_rows, read_columns
from star_r1.data.manifest import write_manifest
from star_r1.data.names import MOST_SHARDS
from star_r1.data.pictures import PNG_START, Unusable, check_sums, decode, read_header
from star_r1.data.shards import Row, encode_png, to_parquet
from star_r1.data.workers import open_pool, stopped
from star_r1.errors import UserError
from star_r1.files import leftovers, read_regular, write_atomic
from star_r1.progress import progress
from star_r1.texts import harmless

SHARD_SAMPLES: Final = 256
"""Samples in one file: an interrupted import loses at most as many a worker."""
SHOWN_FAULTS: Final = 20
"""Faults that are printed; all of them are in ``faults.jsonl``."""
MAX_TEXT: Final = 1 << 20
"""Bytes of one sample as JSON; TRANCE's take some 3,000."""

_LONGEST_NAME: Final = 1024
"""Characters of the name of a picture, folders included."""
_SETTINGS: Final = "import.json"
_FAULTS: Final = "faults.jsonl"


@dataclass(eq=False)
class Flaw(Exception):
    """One sample cannot be taken.

    Attributes:
        field: of the sample, such as ``states[0].objects[3].color``.
        what: is wrong with it.
    """

    field: str
    what: str

    def __str__(self) -> str:
        return f"{self.field}: {self.what}"


@dataclass(frozen=True, slots=True)
class Fault:
    """A line of ``faults.jsonl``: a sample that was not taken, and why.

    Attributes:
        sample: its name in the source, empty where that cannot be read.
        where: file and line, or whatever else finds it.
        field: the part that is at fault.
        what: is wrong with it.
    """

    sample: str
    where: str
    field: str
    what: str

    def __str__(self) -> str:
        name = f"sample {self.sample}: " if self.sample else ""
        return f"{self.where}: {name}{self.field}: {self.what}"


class Source(Protocol):
    """Where samples come from. It goes to other processes, so it must pickle."""

    def rows(self, place: int) -> list[Row]:
        """The rows of the sample at ``place``, pictures read and checked; raises Flaw."""

    def name(self, place: int) -> tuple[str, str]:
        """What a fault calls the sample at ``place``: ``Fault.sample`` and ``Fault.where``."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What is to be imported.

    Attributes:
        source: of the samples.
        places: of the samples to take, in order.
        rows_each: rows that every sample gives.
        split: name of the split.
        settings: all that the bytes depend on; JSON.
        faults: of samples that are not among ``places`` because of them.
    """

    source: Source
    places: Sequence[int]
    rows_each: int
    split: str
    settings: Mapping[str, Any]
    faults: tuple[Fault, ...] = ()

    @property
    def shards(self) -> dict[str, Sequence[int]]:
        """Name of each shard -> the places of its samples."""
        starts = range(0, len(self.places), SHARD_SAMPLES)
        return {
            f"{self.split}-{n:05d}-of-{len(starts):05d}.parquet": self.places[
                start : start + SHARD_SAMPLES
            ]
            for n, start in enumerate(starts)
        }


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to.

    Attributes:
        samples: in the folder.
        rows: in the folder.
        faulty: samples left out for a fault.
        first: id of the first row.
        left_out: samples left out since they are of another kind than was asked for.
    """

    samples: int
    rows: int
    faulty: int
    first: str
    left_out: int = 0


def take_in(out: Path, intake: Intake, origin: Origin, skip: bool, workers: int = 1) -> Imported:
    """Fill ``out`` with all samples of ``intake`` that have no fault.

    Writes ``import.json`` first, the shards in ``data/`` as they fill, then the card and the
    manifest; ``faults.jsonl`` where there are faults, which are printed on stderr too. Every file
    appears whole. Finished shards are kept, and the same call makes the rest; a shard that lacks
    samples is made anew, for their faults may be mended. Memory holds one shard a worker.

    Args:
        out: folder; new, empty, or of an interrupted import of the same settings.
        intake: what to import.
        origin: for the card.
        skip: leave samples with faults out; else they end the import.
        workers: processes; they leave no trace in the bytes.

    Raises:
        UserError: there are faults and ``skip`` is not set, no sample is left, ``out`` holds
            something else, cannot be written or is on a full disk.
    """
    begun = any(out.glob("data/*.parquet"))
    claim(out / _SETTINGS, intake.settings, "import", begun)
    faults = list(intake.faults)
    if not skip:
        _stop_at(out, faults)
    if not intake.places:
        _report(out, faults)
        raise UserError(f"no sample is left to import; see {out / _FAULTS}")
    if len(intake.shards) > MOST_SHARDS:
        raise UserError(
            f"{len(intake.places)} samples: at most {MOST_SHARDS * SHARD_SAMPLES} make one split; "
            "import them in parts"
        )
    for old in (out / "data").glob(".*.tmp"):  # of an import that was killed
        old.unlink(missing_ok=True)
    missing = {
        out / "data" / name: places
        for name, places in intake.shards.items()
        if count_rows(out / "data" / name) != len(places) * intake.rows_each
    }
    to_do = sum(map(len, missing.values()))
    with (
        progress("Importing", len(intake.places), done=len(intake.places) - to_do) as advance,
        closing(_make_all(intake.source, missing, skip, workers)) as made,
    ):
        for places, found in zip(missing.values(), made, strict=True):
            faults += found
            if not skip:
                _stop_at(out, faults)
            advance(len(places))
    taken = len(intake.places) - (len(faults) - len(intake.faults))
    _report(out, faults)
    if not taken:
        raise UserError(f"every sample has a fault; see {out / _FAULTS}")
    counts = count(read_columns(out, COUNTED))
    write_atomic(out / "README.md", write_card({intake.split: counts}, origin))
    write_manifest(out, intake.settings)
    first = next(read_columns(out, ["id"]))["id"]
    return Imported(counts.samples, counts.rows, len(faults), first)


def read_picture(data: bytes, name: str) -> tuple[bytes, tuple[int, int]]:
    """A PNG file as a sound PNG file without alpha, and its width and height.

    Args:
        data: the file.
        name: what a flaw calls it.

    Raises:
        Flaw: it is cut off or damaged, no PNG, not RGB or RGBA, or larger than 4096 pixels a side.

    >>> import numpy as np
    >>> file = encode_png(np.zeros((2, 3, 3), np.uint8))
    >>> read_picture(file, "a.png") == (file, (3, 2))
    True
    >>> read_picture(file[:-20], "a.png")
    Traceback (most recent call last):
    ...
    star_r1.data.intake.Flaw: a.png: is cut off
    """
    try:
        if not data.startswith(PNG_START):
            raise Unusable("is no PNG file, or its start is damaged")
        header = read_header(data, ("RGB", "RGBA"))
        check_sums(data)
        picture = decode(data)
    except Unusable as fault:
        raise Flaw(name, str(fault)) from None
    # As TRANCE's own loader: the color that is there, no alpha.
    return data if header.plain else encode_png(np.asarray(picture)), picture.size


def equal_sizes(pictures: Mapping[str, tuple[bytes, tuple[int, int]]]) -> None:
    """Raise a Flaw unless all pictures have the width and height of the first.

    Args:
        pictures: name -> what ``read_picture`` gave.
    """
    (first, (_, size)), *others = pictures.items()
    for name, (_, other) in others:
        if other != size:
            raise Flaw("images", f"{first} is {_size(size)}, {name} is {_size(other)}")


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def check_name(name: Any, field: str) -> str:
    """The name of a picture, if it is one and stays within its folder; else a Flaw.

    >>> check_name("train/a.png", "image[0]")
    'train/a.png'
    """
    known = isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME
    if not known or "\\" in name:
        raise Flaw(field, f"{short(name)} is not the name of a picture")
    if name.startswith("/") or ".." in name.split("/"):
        raise Flaw(field, f"{short(name)} leads out of the folder of the pictures")
    return str(name)


def parse(text: bytes) -> Any:
    """JSON; a Flaw where it is none or longer than ``MAX_TEXT``."""
    if len(text) >= MAX_TEXT:
        raise Flaw("line", f"is longer than {MAX_TEXT >> 20} MB")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Flaw("line", f"is not JSON: {error.msg}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise Flaw("line", f"is not JSON: {error}") from None


def short(value: Any) -> str:
    """A value as a message shows it: JSON, cut where it is long."""
    try:
        return harmless(json.dumps(value), 60)
    except RecursionError:
        return "what is nested too deeply"


def claim(path: Path, settings: Mapping[str, Any], noun: str, begun: bool) -> None:
    """Write ``settings`` into a folder as its first file, or see that those in it are the same.

    Args:
        path: of that file.
        settings: JSON.
        noun: what the folder holds: import, export or pretraining.
        begun: whether it holds results that depend on the settings; else others may be written.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    out = path.parent
    text = json.dumps(settings, indent=1) + "\n"
    try:
        found = json.loads(read_regular(path, MAX_TEXT))
    except (FileNotFoundError, NotADirectoryError):
        if out.exists() and not (out.is_dir() and set(out.iterdir()) <= {*leftovers(path)}):
            raise UserError(
                f"{out}: exists and is no {noun} of star-r1; name a new or an empty folder"
            ) from None
        found = None
    except (OSError, ValueError, RecursionError):
        raise UserError(
            f"{path}: not the JSON that star-r1 writes for {_a(noun)}; name another folder"
        ) from None
    asked = json.loads(text)
    if found is not None and found != asked and begun:
        known = found if isinstance(found, dict) else {}
        name = next((name for name in {**asked, **known} if known.get(name) != asked.get(name)), "")
        raise UserError(
            f"{out}: holds {_a(noun)} with {name} {short(known.get(name))}, not "
            f"{short(asked.get(name))}; give the same settings to finish it, or name another folder"
        )
    if found != asked:
        write_atomic(path, text)


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _stop_at(out: Path, faults: Sequence[Fault]) -> None:
    if faults:
        _report(out, faults)
        many = "a sample has a fault" if len(faults) == 1 else f"{len(faults)} samples have faults"
        raise UserError(
            f"{many}, named above and in {out / _FAULTS}; "
            "mend them, or leave such samples out with --faults skip"
        )


def _report(out: Path, faults: Sequence[Fault]) -> None:
    """Write ``faults.jsonl``, or see that there is none; print the first of them."""
    path = out / _FAULTS
    if not faults:
        path.unlink(missing_ok=True)
        return
    write_atomic(path, "".join(json.dumps(asdict(fault)) + "\n" for fault in faults))
    for fault in faults[:SHOWN_FAULTS]:
        print(harmless(str(fault), 1000), file=sys.stderr)
    if len(faults) > SHOWN_FAULTS:
        print(f"... and {len(faults) - SHOWN_FAULTS} more in {path}", file=sys.stderr)


def _make_all(
    source: Source, shards: Mapping[Path, Sequence[int]], skip: bool, workers: int
) -> Generator[list[Fault]]:
    """Make each shard; the faults of its samples, in the order of ``shards``."""
    make = functools.partial(_make, source, skip)
    if workers == 1:
        yield from map(make, shards, shards.values())
        return
    with open_pool(workers) as pool:
        yield from pool.map(make, shards, shards.values())


def _make(source: Source, skip: bool, path: Path, places: Sequence[int]) -> list[Fault]:
    """Write one shard, unless a fault ends the import."""
    rows: list[Row] = []
    faults = []
    for place in places:
        if stopped():
            return []
        try:
            rows += source.rows(place)
        except Flaw as flaw:
            faults.append(Fault(*source.name(place), flaw.field, flaw.what))
    if skip or not faults:
        write_atomic(path, to_parquet(rows))
    return faults
