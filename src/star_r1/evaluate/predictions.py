"""Predictions on disk: one ``{"id": ..., "completion": ...}`` a line; strict reading, scoring."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from star_r1.errors import UserError
from star_r1.metrics import Scores, score
from star_r1.trance_metrics import score_trance
from star_r1.tvr.answer import Answer, parse_answer
from star_r1.tvr.sample import Sample

Pairs: TypeAlias = Sequence[tuple[Answer, Sample]]
MetricSet: TypeAlias = Literal["star", "basic", "event", "view"]
"""STAR-R1's metrics, or TRANCE's in one of its settings."""


def score_file(data: Path, predictions: Path, metrics: MetricSet = "star") -> Scores:
    """The metrics of a predictions file over the whole of a dataset.

    The file must answer every row of the dataset exactly once: a part of it would have a score
    that compares with nothing. (``star-r1 evaluate`` with ``--limit`` or ``--views`` scores the
    rows that it ran, in its own metrics.json.)

    Args:
        data: a dataset folder, as ``star-r1 generate`` writes it.
        predictions: JSON lines ``{"id": ..., "completion": ...}``; other fields are not read.
        metrics: the 11 of STAR-R1, or those of TRANCE's evaluator.

    Returns:
        group -> metric -> ``{"value", "ci95", "n"}``, see ``metrics.score`` and
        ``trance_metrics.score_trance``.

    Raises:
        UserError: the dataset or the file is missing or damaged, see ``read_predictions``; a row
            of the dataset has no prediction.
    """
    from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns

    rows = list(read_columns(data, SAMPLE_COLUMNS))
    known = [row["id"] for row in rows]
    completions = read_predictions(predictions, set(known))
    if missing := [id for id in known if id not in completions]:
        raise UserError(
            f"{predictions}: no prediction for {missing[0]!r}, in all for {len(missing)} of the "
            f"{len(known)} rows of {data}; predict every row"
        )
    pairs = read_answers(rows, completions)
    return score(pairs) if metrics == "star" else score_trance(pairs, metrics)


def read_answers(rows: Iterable[Mapping[str, Any]], completions: Mapping[str, str]) -> Pairs:
    """Each completion, read with the vocabulary of its row, and the sample of the row.

    Args:
        rows: of a dataset, with its ``SAMPLE_COLUMNS``; the pictures are not used, and rows
            without them are faster to read.
        completions: by id, one for each row.
    """
    from star_r1.data.dataset import row_to_sample

    samples = map(row_to_sample, rows)
    return [(parse_answer(completions[s.id], s.vocabulary), s) for s in samples]


def read_predictions(path: Path, known: Collection[str]) -> dict[str, str]:
    """Id -> completion, in the order of the file.

    Args:
        path: JSON lines ``{"id": ..., "completion": ...}``; other fields are not read, empty
            lines are passed over.
        known: the ids that may occur.

    Raises:
        UserError: the file cannot be read; a line is no JSON object, lacks a field or holds
            something else than a string in it; an id is not ``known`` or repeated.
    """
    completions: dict[str, str] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a predictions file") from None
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(
                f"{where}: not JSON: {_excerpt(line)}; write one object a line"
            ) from None
        if not isinstance(row, dict):
            raise UserError(f'{where}: not an object; write {{"id": ..., "completion": ...}}')
        for field in ("id", "completion"):
            if field not in row:
                raise UserError(f"{where}: no field {field!r}; write id and completion")
            if not isinstance(row[field], str):
                kind = type(row[field]).__name__
                raise UserError(f"{where}: field {field!r} holds a {kind}; write a string")
        if row["id"] not in known:
            raise UserError(f"{where}: id {row['id']!r} is not in the data; check that both belong")
        if row["id"] in completions:
            raise UserError(f"{where}: id {row['id']!r} occurs a second time; predict a row once")
        completions[row["id"]] = row["completion"]
    return completions


def _excerpt(line: bytes) -> str:
    text = line[:60].decode("utf-8", "replace")
    return repr(text + "..." if len(line) > 60 else text)
