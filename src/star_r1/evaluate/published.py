"""What the STAR-R1 paper measured, each number with how far it can be trusted."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Status: TypeAlias = Literal["known", "reported", "inferred"]
"""``known``: in the authors' text, or in two independent summaries that agree. ``reported``: in
one second-hand summary. ``inferred``: computed from such numbers. docs/method.md has the words."""

PAPER: Final = "arXiv 2505.15804"

SETTING: Final = (
    "The paper's numbers are those of other work: STAR-R1 and STAR-SFT are 7B models, measured on "
    "TRANCE at full difficulty (1-10 visible objects, 1-4 changes), on pairs that were not "
    "published, without intervals. They are not comparable with runs on other data, and enter no "
    "interval."
)
"""What stands below every table that shows these numbers."""


@dataclass(frozen=True, slots=True)
class Published:
    """One number of the paper.

    Attributes:
        model: the paper's name of it; in ``ABLATIONS`` what is changed in STAR-R1's reward.
        metric: one of ``metrics.METRICS``.
        group: one of ``metrics.GROUPS``.
        value: in the units of ``metrics.score``: a fraction of 1, or a mean of counts.
        status: how far it can be trusted.
        note: where it comes from, where that is more than the paper's tables as summarised.
        shown: the number as it was given, where a table of ours would show more digits.
    """

    model: str
    metric: str
    group: str
    value: float
    status: Status = "reported"
    note: str = ""
    shown: str = ""


_ALL_VIEWS = "of which views is not said, taken as all"

MODELS: Final = (
    Published("STAR-R1 7B", "tacc", "overall", 0.614),
    Published("STAR-R1 7B", "tacc", "id", 0.763),
    Published("STAR-R1 7B", "tacc", "ood", 0.539),
    Published("STAR-R1 7B", "ndiff", "overall", 0.31),
    Published("STAR-R1 7B", "objects_1_3", "overall", 0.910, note=_ALL_VIEWS),
    Published("STAR-R1 7B", "objects_9_10", "overall", 0.375, note=_ALL_VIEWS),
    Published("STAR-SFT 7B", "tacc", "overall", 0.487, "inferred", "(84.2 + 2 * 30.9) / 3"),
    Published("STAR-SFT 7B", "tacc", "id", 0.842),
    Published("STAR-SFT 7B", "tacc", "ood", 0.309),
    Published("o3", "tacc", "overall", 0.360),
    Published("GPT-4o", "tacc", "overall", 0.235),
    Published("Gemini-1.5-Pro", "tacc", "overall", 0.159, "inferred", "61.4 - 45.5"),
    Published("Qwen2.5-VL-7B", "ndiff", "overall", 1.5, shown="1.5"),
)
"""TAcc, NDiff and populations of the paper's models. What is not here is not known: Diff, the
accuracies by attribute, the middle populations.

Source: arXiv 2505.15804 as summarised (the authors published no tables that a program could read).
"""


def _ablation(change: str, tacc: float, ndiff: float, note: str = "") -> tuple[Published, ...]:
    return (
        Published(change, "tacc", "overall", tacc, note=note),
        Published(change, "ndiff", "overall", ndiff, note=note),
    )


ABLATIONS: Final = (
    *_ablation("full reward", 0.614, 0.31),
    *_ablation("without the object tier", 0.580, 0.37),
    *_ablation("without the attribute tier", 0.568, 0.40),
    *_ablation("without the under-prediction penalty", 0.582, 0.41),
    *_ablation("without the wrong-prediction penalty", 0.543, 0.44),
    *_ablation("naive GRPO", 0.545, 0.43, "in one summary the penalty -|n_pred - n_gt|"),
)
"""STAR-R1 7B trained with other rewards, on the whole test set; ``star_r1.reward.rivals``.

Source: arXiv 2505.15804 as summarised.
"""
