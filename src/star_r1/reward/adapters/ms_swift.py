"""The rewards as ms-swift calls them: a class in its table ``orms``, put there by ``register``.

ms-swift itself is asked for by ``register`` alone, so that the rest works without it. Do not name
this file in ``--external_plugins``: ms-swift puts the folder of a plugin in front of Python's
path, where ``trl.py`` and ``verl.py`` would hide the real packages (ms-swift 4.6). The plugin that
``star-r1 export ms-swift`` writes calls ``register`` from a folder of its own.
"""

from collections.abc import Sequence
from typing import Any

from star_r1.reward.adapters.score import score
from star_r1.reward.adapters.truth import read_packed


def rewards(completions: Sequence[str], ground_truth: Sequence[str], **chosen: Any) -> list[float]:
    """One reward a completion.

    Args:
        completions: texts.
        ground_truth: the column of the dataset: what ``star-r1 export ms-swift`` wrote, or
            triplets: ``"2.color.cyan"``.
        **chosen: ``reward``, the name of one, and fields of ``StarConfig``, as for
            ``score.score``.

    Raises:
        UserError: a ground truth cannot be read, or ``chosen`` names what there is not.

    >>> rewards(["<think>.</think><answer>2.color.cyan</answer>"], ["2.color.cyan"], format=0)
    [5.0]
    """
    return [
        score(*read_packed(text, truth), **chosen)["score"]
        for text, truth in zip(completions, ground_truth, strict=True)
    ]


def register(name: str = "star", **chosen: Any) -> None:
    """Let ``--reward_funcs NAME`` of ms-swift be the STAR reward, or another.

    Args:
        name: in ``--reward_funcs``.
        **chosen: as for ``rewards``: ``register("star_without_object", object=0)``.

    Raises:
        ModuleNotFoundError: ms-swift is not installed.
    """
    from swift.rewards import ORM, orms

    class Star(ORM):  # type: ignore[misc]
        """What ms-swift makes once and calls for each batch, the dataset's columns by name."""

        def __call__(
            self, completions: Sequence[str], ground_truth: Sequence[str], **columns: Any
        ) -> list[float]:
            return rewards(completions, ground_truth, **chosen)

    Star.__name__ = name  # the name of the curve
    orms[name] = Star
