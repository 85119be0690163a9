"""The rewards with the signature that TRL's GRPOTrainer calls, their terms logged as curves."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final, Protocol, TypeAlias

from star_r1.reward.adapters.score import RIVALS, TERMS
from star_r1.reward.adapters.truth import Pair, read
from star_r1.reward.rivals import Rival
from star_r1.reward.star import StarConfig, star
from star_r1.tvr.answer import whole

Completion: TypeAlias = str | Sequence[Mapping[str, Any]]
"""Text, or chat messages whose last one is read; its content is text or a list of parts."""

PROMPT_END: Final = "prompt_end"
"""The column of what the prompt of each completion ends in, as far as ``tvr.answer.opened`` reads
it. Our own trainer adds it. Without it, prompts that are text tell; chat messages do not say what
the template makes of them, and then the completions tell (``tvr.answer.whole``)."""

_REASONING: Final = ("reasoning_content", "reasoning", "thinking")
"""Where a message has what a model thought, if its tokenizer tells it apart (TRL 1.16)."""


class TrlReward(Protocol):
    """What ``GRPOTrainer(reward_funcs=...)`` takes; TRL names the curve after ``__name__``."""

    __name__: str

    def __call__(
        self,
        completions: Sequence[Completion],
        answer: Sequence[str],
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        """Score each completion; ``answer`` and ``columns`` are columns of the dataset."""


def make_star_reward(config: StarConfig) -> TrlReward:
    """The STAR reward under ``config`` as a TRL reward function.

    It logs the mean of each term (``reward/format``, ``exact``, ``attribute``, ``object``,
    ``wrong``, ``missing``) and of ``answer/predictions``, ``answer/well_formed`` and
    ``answer/right``, and adds the terms and the predictions to TRL's table of completions.

    Raises (when called):
        UserError: an entry of the ``answer`` column is no list of triplets.

    >>> from star_r1.reward import StarConfig
    >>> reward = make_star_reward(StarConfig(format=0))
    >>> reward(completions=["<answer>2.color.cyan</answer>"], answer=["2.color.cyan"])
    [5.0]
    """

    def star_reward(
        completions: Sequence[Completion],
        answer: Sequence[str],
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        pairs = _read(completions, answer, columns)
        rewards = [star(said, truth, config) for said, truth in pairs]
        terms = {term: [float(getattr(reward, term)) for reward in rewards] for term in TERMS}
        if log_metric is not None:
            for term, values in terms.items():
                log_metric(f"reward/{term}", fmean(values))
            _log_answers(pairs, log_metric)
        if log_extra is not None:
            log_extra(
                "predicted", [", ".join(p.text for p in said.predictions) for said, _ in pairs]
            )
            for term, values in terms.items():
                log_extra(term, values)
        return [reward.total for reward in rewards]

    return star_reward


star_reward: Final = make_star_reward(StarConfig())
"""The STAR reward with the numbers of the paper."""


def _make_rival(function: Rival) -> TrlReward:
    def rival(
        completions: Sequence[Completion],
        answer: Sequence[str],
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> list[float]:
        pairs = _read(completions, answer, columns)
        if log_metric is not None:
            _log_answers(pairs, log_metric)
        return [function(said, truth) for said, truth in pairs]

    rival.__name__ = f"{function.__name__}_reward"
    return rival


REWARDS: Final[dict[str, TrlReward]] = {
    "star": star_reward,
    **{name: _make_rival(function) for name, function in RIVALS.items()},
}
"""What a recipe may name as its reward."""


def _read(
    completions: Sequence[Completion], answers: Sequence[str], columns: Mapping[str, Any]
) -> list[Pair]:
    """Each completion read, beside its true changes (``truth.read`` says from which columns)."""
    ids, vocabularies, records, ends, prompts = (
        columns.get(name) or [None] * len(answers)
        for name in ("id", "vocabulary", "changes", PROMPT_END, "prompts")
    )
    return [
        read(
            text_of(completion, prompts[row] if ends[row] is None else ends[row]),
            f"row {row} of the batch" if ids[row] is None else f"sample {ids[row]}",
            answers[row],
            vocabularies[row],
            records[row],
        )
        for row, completion in enumerate(completions)
    ]


def text_of(completion: Completion, prompt: object = None) -> str:
    """What a completion says, whole. Never raises.

    Args:
        completion: as TRL hands it to a reward, or as its table of completions has it.
        prompt: the text of the prompt or its end; anything else says nothing of it.
    """
    known = prompt if isinstance(prompt, str) else None
    if isinstance(completion, str):
        return whole(completion, known)
    message = completion[-1] if isinstance(completion, Sequence) and completion else None
    if not isinstance(message, Mapping):
        return ""
    content = message.get("content")
    if not isinstance(content, str):
        parts = content if isinstance(content, list) else []
        texts = (part.get("text") for part in parts if isinstance(part, Mapping))
        content = "".join(text for text in texts if isinstance(text, str))
    reasoning = next((message[name] for name in _REASONING if message.get(name)), None)
    return whole(content, known, reasoning)


def logged_text(row: Mapping[str, Any]) -> str:
    """What a row of the trainer's table of completions says, whole."""
    return text_of(row["completion"], row.get(PROMPT_END))


def _log_answers(pairs: Sequence[Pair], log_metric: Callable[[str, float], None]) -> None:
    log_metric("answer/predictions", fmean(len(said.predictions) for said, _ in pairs))
    log_metric("answer/well_formed", fmean(said.well_formed for said, _ in pairs))
    log_metric("answer/right", fmean(said.is_exactly(truth) for said, truth in pairs))
