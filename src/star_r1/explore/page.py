"""The folder of the explorer: data in scripts, which a page may read from a disk, then its index.

A browser lets a page that it opened from a disk read neither JSON files nor modules, but run the
scripts beside it; so each file of data is one call of a function of the page.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from star_r1.errors import UserError
from star_r1.explore.collect import TERMS, Row, Source, open_source, rows
from star_r1.explore.kinds import KINDS, OUTCOMES, STATUSES
from star_r1.files import write_atomic
from star_r1.metrics import POPULATIONS, group_views
from star_r1.progress import progress
from star_r1.tvr.vocabulary import ATTRIBUTES, MOVES, TABLE_CELLS, VISIBLE_CELLS

GENERATOR: Final = b'<meta name="generator" content="star-r1 explore">'
"""In the page: a folder that has it may be written again."""

CHUNK: Final = 100
"""Rows in a file, which the page reads when one of them is looked at."""

ASSETS: Final = (
    "index.html",
    "style.css",
    "core.js",
    "filters.js",
    "score.js",
    "list.js",
    "highlight.js",
    "detail.js",
    "play.js",
    "app.js",
)
"""Of the page, as they lie in this package."""


def write_explorer(paths: Sequence[Path], out: Path) -> Path:
    """Write a page about a dataset, or about runs over one, into a folder.

    It opens from the disk, without a server or a network. The index of the data is written last:
    until it is there, the page says that it is not finished. Called again, it keeps the pictures
    that are there. The same data give the same bytes.

    Args:
        paths: as ``collect.open_source``.
        out: the folder, made if absent; it must be empty, or an earlier explorer's.

    Returns:
        The page, to be opened in a browser.

    Raises:
        UserError: as ``collect.open_source``; the data or answers are not those that a run's
            metrics are of; ``out`` holds something else or cannot be written.
    """
    source = open_source(paths)
    page = _claim(out)
    index = out / "data" / "index.js"
    try:
        index.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}; choose another folder") from None
    for name in ASSETS:
        write_atomic(out / name, files("star_r1.explore").joinpath("assets", name).read_bytes())
    briefs: list[dict[str, Any]] = []
    written = set[Path]()
    chunk: list[dict[str, Any]] = []
    with progress("Writing the explorer", len(source.answers)) as advance:
        for row in rows(source):
            written |= _write_pictures(out / "images", row)
            briefs.append(row.brief)
            chunk.append(row.full)
            if len(chunk) == CHUNK or len(briefs) == len(source.answers):
                written.add(_write_chunk(out / "data", (len(briefs) - 1) // CHUNK, chunk))
                chunk = []
            advance()
    _prune(out, written)
    write_atomic(index, script("begin", index_json(source, briefs)))
    return page


def _claim(out: Path) -> Path:
    """Make the folder, or see that it may be written; the page in it."""
    page = out / "index.html"
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = any(out.iterdir())
        if there and not (page.is_file() and GENERATOR in page.read_bytes()):
            raise UserError(f"--out {out}: holds something else; choose another folder")
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}; choose another folder") from None
    return page


def _write_pictures(folder: Path, row: Row) -> set[Path]:
    paths = set()
    for picture in row.pictures:
        path = folder / picture.name
        if not path.exists():  # named by its content, written whole or not at all
            write_atomic(path, picture.content)
        paths.add(path)
    return paths


def _write_chunk(folder: Path, number: int, chunk: Sequence[dict[str, Any]]) -> Path:
    path = folder / f"rows-{number:03d}.js"
    write_atomic(path, script("receive", number, chunk))
    return path


def script(function: str, *arguments: Any) -> str:
    r"""A call of a function of the page.

    JSON in ASCII is a part of JavaScript, whatever a completion holds: quotes, line separators,
    halves of surrogate pairs. No ``<`` is left of it, for readers that take a script for HTML.

    >>> script("receive", 0, ["</script>"])
    'StarR1.receive(0,["\\u003c/script>"]);\n'
    """
    values = (json.dumps(value, separators=(",", ":")) for value in arguments)
    return f"StarR1.{function}({','.join(values)});\n".replace("<", "\\u003c")


def _prune(out: Path, written: set[Path]) -> None:
    """Remove what an earlier explorer left in the folder."""
    for path in (*(out / "data").glob("rows-*.js"), *(out / "images").glob("*.*")):
        if path not in written:
            path.unlink()


def index_json(source: Source, briefs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the page must know of all rows at once: a list a column, in the order of the rows.

    Sets are bit masks, by the lists of names that go with them.
    """
    seen = {brief["view"] for brief in briefs}
    views = [view for view in group_views(seen)["overall"] if view in seen]
    moves = any(brief["moves"] for brief in briefs)
    attributes = [*ATTRIBUTES, *(["position"] if moves else [])]
    kinds = dict[str, tuple[str, str]]((*KINDS.items(), *STATUSES.items()))
    bits = {name: 1 << place for place, name in enumerate(kinds)}
    return {
        "data": source.data.resolve().name,
        "fingerprint": _fingerprint(briefs),
        "chunk": CHUNK,
        "ids": [brief["id"] for brief in briefs],
        "views": views,
        "view": [views.index(brief["view"]) for brief in briefs],
        "populations": [
            {"key": name, "least": numbers[0], "most": numbers[-1]}
            for name, numbers in POPULATIONS.items()
        ],
        "population": [brief["population"] for brief in briefs],
        "scene": _scenes(briefs),
        "attributes": attributes,
        "changed": [
            sum(1 << attributes.index(name) for name in brief["changed"]) for brief in briefs
        ],
        "outcomes": _named(OUTCOMES),
        "kinds": _named(kinds),
        "terms": TERMS,
        "table": {"moves": MOVES, "cells": TABLE_CELLS, "visible": VISIBLE_CELLS},
        "runs": [
            {
                "name": name,
                # Of a folder, its name: where it lies is nobody's business, should the page travel.
                "model": re.sub(r"^/.*/", "", str(run.about.get("model", ""))),
                "outcome": [
                    list(OUTCOMES).index(said["outcome"]) if said else -1 for said in answers
                ],
                "kinds": [
                    sum(bits.get(kind, 0) for kind in (*said["kinds"], said["status"]))
                    if said
                    else 0
                    for said in answers
                ],
                "right": [said["right"] if said else 0 for said in answers],
                "of": [said["of"] if said else 0 for said in answers],
            }
            for place, (name, run) in enumerate(zip(_names(source), source.runs, strict=True))
            for answers in ([brief["runs"][place] for brief in briefs],)
        ],
    }


def _names(source: Source) -> list[str]:
    """Of the runs' folders; with as much of their paths as tells them apart."""
    paths = [run.folder.resolve().parts for run in source.runs]
    length = 1
    while len({path[-length:] for path in paths}) < len(paths):
        length += 1
    return ["/".join(path[-length:]) for path in paths]


def _scenes(briefs: Sequence[dict[str, Any]]) -> list[int]:
    """A number a scene with its changes: its views ask the same, and one gives the others away."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(brief["question"], len(numbers)) for brief in briefs]


def _named(meanings: Mapping[Any, tuple[str, str]]) -> list[dict[str, str]]:
    return [
        {"key": key, "name": name, "meaning": meaning} for key, (name, meaning) in meanings.items()
    ]


def _fingerprint(briefs: Sequence[dict[str, Any]]) -> str:
    """Of the questions: a browser keeps what a person answered under it."""
    digest = hashlib.sha256(
        json.dumps([[brief["id"], brief["question"]] for brief in briefs]).encode()
    )
    return digest.hexdigest()[:16]
