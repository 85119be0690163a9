"""Answers of a file against the truth of a dataset: the metrics."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from star_r1.errors import UserError
from star_r1.evaluate.predictions import read_predictions
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
