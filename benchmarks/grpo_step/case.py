"""What is measured: shapes, pictures, lengths, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from star_r1.model.source import MINI

ARMS = ("TRL", "shared prompts")
"""TRL's own way, and each prompt computed once for its group."""
SEED = 7


@dataclass(frozen=True)
class Case:
    """What both arms do.

    Attributes:
        shape: ``mini``, or the name of a published model, built with random weights.
        pictures: width, height.
        length: tokens a completion; the most, if they are ``free``.
        prompts: prompts a step, each with ``group`` completions.
        checkpointing: compute activations again in the backward pass instead of keeping them.
        free: completions end where the model ends them, so that the arms' lengths are alike but
            not the same.
        tiny: shrink the model, to try the program itself on a CPU.
        given: steps that are handed random completions; the first is not counted.
        sampled: steps that draw them; the first is not counted.
    """

    shape: str
    pictures: tuple[int, int]
    length: int
    prompts: int
    group: int = 8
    checkpointing: bool = False
    free: bool = False
    tiny: bool = False
    given: int = 0
    sampled: int = 0

    @property
    def on_cpu(self) -> bool:
        """Or on a GPU."""
        return self.shape == MINI or self.tiny

    @property
    def steps(self) -> list[str]:
        """The kind of each step, in order."""
        return ["given"] * self.given + ["sampled"] * self.sampled


def cases(
    shape: str, tiny: bool, lengths: Sequence[int], prompts: int | None, repeats: int | None
) -> list[Case]:
    """What is measured of a shape; None and no lengths stand for its defaults."""
    if shape == MINI:
        # The recipe: 12 prompts a step, at most 96 tokens; over the demo's run they are 52 long.
        case = Case(MINI, (160, 120), 96, prompts or 12)
        found = [replace(case, length=length) for length in lengths or (52, 96)]
        found.append(replace(case, free=True))
    else:
        found = [
            Case(shape, pictures, length, prompts or 1, checkpointing=checkpointing, tiny=tiny)
            for pictures in ((320, 240), (640, 480))
            for length in lengths or (256, 512)
            for checkpointing in (True, False)
        ]
    return [_with_steps(case, repeats) for case in found]


def _with_steps(case: Case, repeats: int | None) -> Case:
    """On the CPU all steps sample; on a GPU most updates are measured alone, to save time."""
    if case.on_cpu:
        return replace(case, sampled=1 + (repeats or 7))
    samples = case.checkpointing and case.length <= 256
    return replace(case, given=1 + (repeats or 3), sampled=1 + (repeats or 2) if samples else 0)
