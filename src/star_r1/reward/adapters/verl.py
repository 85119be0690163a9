"""The rewards as verl calls them: one completion at a time, the terms as extra info."""

from collections.abc import Mapping
from typing import Any, Final

from star_r1.reward.adapters.score import score
from star_r1.reward.adapters.truth import read_packed

_VERLS_OWN: Final = ("reward_router_address", "reward_model_tokenizer")
"""What verl adds to the arguments where a reward model runs besides."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    """The function for verl's ``reward.custom_reward_function``.

    ``path=pkg://star_r1.reward.adapters.verl`` (or this file), ``name=compute_score``; an
    ablation is ``+reward.custom_reward_function.reward_kwargs.object=0``.

    Args:
        data_source: not looked at.
        solution_str: the completion; whatever it is, it does not raise.
        ground_truth: what ``star-r1 export verl`` wrote, or triplets: ``"2.color.cyan"``.
        extra_info: its ``id`` names the sample in messages.
        **kwargs: ``reward_kwargs`` of verl's config: ``reward``, the name of one, and fields of
            ``StarConfig``.

    Returns:
        ``score``, the terms, ``right``, ``well_formed``, ``predictions`` (see ``score.score``), and
        ``right`` once more as ``acc``, the name by which verl picks what it reports first.

    Raises:
        UserError: the ground truth cannot be read, or ``kwargs`` name what there is not.

    >>> right = "<think>.</think><answer>2.color.cyan</answer>"
    >>> compute_score("tvr", right, "2.color.cyan")["score"]
    6.0
    >>> compute_score("tvr", right, "2.color.cyan", reward="sparse")["score"]
    2.0
    """
    chosen = {name: value for name, value in kwargs.items() if name not in _VERLS_OWN}
    known = (extra_info or {}).get("id")
    said, truth = read_packed(solution_str, ground_truth, f"sample {known}" if known else None)
    scored = score(said, truth, **chosen)
    return {**scored, "acc": scored["right"]}
