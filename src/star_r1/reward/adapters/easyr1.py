"""The rewards as EasyR1 calls them: a batch of completions, each with all its terms."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from star_r1.reward.adapters.score import score
from star_r1.reward.adapters.truth import read_packed

REWARD_NAME: Final = "star"
REWARD_TYPE: Final = "batch"
"""Read by EasyR1: ``compute_score`` takes a list."""


def compute_score(
    reward_inputs: Sequence[Mapping[str, Any]], **kwargs: Any
) -> list[dict[str, float]]:
    """The function for EasyR1's ``worker.reward.reward_function``.

    Args:
        reward_inputs: each with ``response``, the completion, and ``ground_truth``: what
            ``star-r1 export easyr1`` wrote, or triplets: ``"2.color.cyan"``.
        **kwargs: ``worker.reward.reward_function_kwargs``: ``reward``, the name of one, and
            fields of ``StarConfig``, such as ``object: 0``.

    Returns:
        Of each ``overall``, which is trained on, and what EasyR1 logs as ``reward/<name>``: the
        terms, ``right``, ``well_formed``, ``predictions`` (see ``score.score``).

    Raises:
        UserError: a ground truth cannot be read, or ``kwargs`` name what there is not.

    >>> right = "<think>.</think><answer>2.color.cyan</answer>"
    >>> [scored] = compute_score([{"response": right, "ground_truth": "2.color.cyan"}])
    >>> scored["overall"], scored["exact"]
    (6.0, 5.0)
    """
    scores = []
    for item in reward_inputs:
        said, truth = read_packed(item["response"], item["ground_truth"])
        scored = score(said, truth, **kwargs)
        scores.append({"overall": scored.pop("score"), **scored})
    return scores
