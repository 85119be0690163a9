"""What one row adds to the metrics: the values that other harnesses keep for each sample."""

from collections.abc import Sequence

from star_r1.metrics import ALL_METRICS, METRICS, judge, judged_values, mean_values
from star_r1.tvr.answer import parse_answer, whole
from star_r1.tvr.sample import Sample


def row_values(completions: Sequence[str], sample: Sample) -> dict[str, float | None]:
    """The metrics of a row by itself, each the mean over its completions.

    The mean of these over many rows is ``metrics.score`` of them all.

    Args:
        completions: of the row, at least one; what their prompts ended in is not known here:
            ``tvr.answer.whole`` says how the texts tell.
        sample: of the row.

    Returns:
        metric -> value, None where the metric leaves the row out.

    >>> from star_r1.tvr import Object, Scene, parse_changes
    >>> objects = [Object(i, "red", "cube", "small", "metal", (8 * i - 36, 0)) for i in range(10)]
    >>> sample = Sample("000000-center", Scene(tuple(objects)), parse_changes("2.color.cyan"))
    >>> values = row_values(["<answer>2.color.cyan</answer>"], sample)
    >>> values["tacc"], values["color"], values["shape"]
    (1.0, 1.0, None)
    """
    judged = [judge(parse_answer(whole(text), sample.vocabulary), sample) for text in completions]
    added = mean_values([judged_values(one, sample) for one in judged])
    metrics = ALL_METRICS if "position" in sample.vocabulary.attributes else METRICS
    values = {metric: added.get(metric) for metric in metrics}
    return {name: None if value is None else float(value) for name, value in values.items()}
