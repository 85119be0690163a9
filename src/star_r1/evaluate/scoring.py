"""Answers of a file against the truth of a dataset: the metrics."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from star_r1.errors import UserError
from star_r1.evaluate.predictions import STATUSES, Completion, read_completions
from star_r1.evaluate.sampled import SampledTally
from star_r1.metrics import Tally, judge
from star_r1.trance_metrics import SETTINGS, TranceTally
from star_r1.tvr.answer import Answer, parse_answer
from star_r1.tvr.sample import Sample

MetricSet: TypeAlias = Literal["star", "basic", "event", "view"]
"""STAR-R1's metrics, or TRANCE's in one of its settings."""
Record: TypeAlias = dict[str, Any]
"""What a metrics.json holds: groups, and ``metrics.BESIDE_GROUPS``."""


def score_file(data: Path, predictions: Path, metrics: MetricSet = "star") -> Record:
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
        ``trance_metrics.score_trance``; with the 11 also what stands beside them in
        ``score_completions``.

    Raises:
        UserError: the dataset or the file is missing or damaged, see ``read_predictions``; a row
            of the dataset has no prediction.
    """
    from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample

    rows = list(read_columns(data, SAMPLE_COLUMNS))
    known = [row["id"] for row in rows]
    completions = read_completions(predictions, set(known))
    if missing := [id for id in known if id not in completions]:
        raise UserError(
            f"{predictions}: no prediction for {missing[0]!r}, in all for {len(missing)} of the "
            f"{len(known)} rows of {data}; predict every row"
        )
    if metrics == "star":
        return _score(map(row_to_sample, rows), completions, seed=0)
    tally = TranceTally(metrics)
    for sample in map(row_to_sample, rows):
        tally.add(sample, _read(completions[sample.id], sample))
    return dict(tally.scores())


def score_completions(
    rows: Sequence[Mapping[str, Any]], completions: Mapping[str, Sequence[Completion]], seed: int
) -> Record:
    """What a metrics.json says of completions: one for each row, or K.

    Args:
        rows: of a dataset, with its ``SAMPLE_COLUMNS``; the pictures are not used, and rows
            without them are faster to read. A ``datasets.Dataset`` will do.
        completions: by the id of the row, the same number for each.
        seed: of the bootstrap.

    Returns:
        The groups and metrics of ``metrics.score``, each metric a mean over the rows of the mean
        over their K completions. Beside the groups:

        - ``answers``: how many completions are ``answered``, ``empty``, ``cut_off``, ``refused``
          and ``failed``, and ``malformed``, the share that is not well-formed;
        - ``samples``, where K is more than 1: pass@k and majority vote by group, see
          ``sampled.SampledTally``;
        - ``trance``, where objects move: setting -> scores, see ``trance_metrics.score_trance``.

    Raises:
        UserError: a row has no completion, or not as many as others; or it is no sample.
    """
    from star_r1.data.dataset import row_to_sample

    record = _score(map(row_to_sample, rows), completions, seed)
    if "position" in record["overall"]:
        tallies = {setting: TranceTally(setting) for setting in SETTINGS}
        for sample in map(row_to_sample, rows):
            answers = _read(completions[sample.id], sample)
            for tally in tallies.values():
                tally.add(sample, answers)
        record["trance"] = {setting: tally.scores(seed) for setting, tally in tallies.items()}
    return record


def _score(
    samples: Iterable[Sample], completions: Mapping[str, Sequence[Completion]], seed: int
) -> Record:
    """As ``score_completions``, without ``trance``; the samples are read once."""
    tally, sampled = Tally(), None
    statuses = Counter(dict.fromkeys(STATUSES, 0))
    malformed = several = 0
    for sample in samples:
        own = completions.get(sample.id, ())
        several = several or len(own)
        if not own or len(own) != several:
            raise UserError(
                f"row {sample.id!r} has {len(own)} completions, not {several or 'one'}; "
                "each row needs as many"
            )
        answers = _read(own, sample)
        judged = [judge(answer, sample) for answer in answers]
        tally.add(sample, judged)
        if several > 1:
            sampled = sampled or SampledTally(several)
            sampled.add(sample, answers, [one.correct for one in judged])
        statuses.update(completion.status for completion in own)
        malformed += sum(not answer.well_formed for answer in answers)
    record: Record = dict(tally.scores(seed))
    record["answers"] = {**statuses, "malformed": malformed / max(statuses.total(), 1)}
    if sampled:
        record["samples"] = sampled.scores(seed)
    return record


def _read(completions: Sequence[Completion], sample: Sample) -> list[Answer]:
    """Each completion, read with the vocabulary of its row."""
    return [parse_answer(completion.text, sample.vocabulary) for completion in completions]


def read_answers(
    rows: Iterable[Mapping[str, Any]], completions: Mapping[str, str]
) -> Sequence[tuple[Answer, Sample]]:
    """Each completion, read with the vocabulary of its row, and the sample of the row.

    Args:
        rows: of a dataset, with its ``SAMPLE_COLUMNS``; the pictures are not used, and rows
            without them are faster to read.
        completions: by id, one for each row.
    """
    from star_r1.data.dataset import row_to_sample

    samples = map(row_to_sample, rows)
    return [(parse_answer(completions[s.id], s.vocabulary), s) for s in samples]
