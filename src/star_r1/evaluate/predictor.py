"""What is asked, and the protocol of whatever answers: a local model, an endpoint, a baseline."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from star_r1.evaluate.predictions import Completion, Status
from star_r1.tvr.sample import Sample


@dataclass(frozen=True, slots=True)
class Question:
    """One row of a dataset as it is asked.

    Attributes:
        id: of the row.
        messages: the conversation, image placeholders ``{"type": "image"}`` in it.
        see: the pictures for the placeholders, in their order, RGB; decoded when called.
        sample: what was asked about; a model never gets it, the baselines do.
        key: of model, prompt, pictures and settings; its completions carry it.
        numbers: which completions of this row are wanted, of 0 to K - 1.
        failed: whether an earlier run asked it in vain.
    """

    id: str
    messages: Sequence[dict[str, Any]]
    see: Callable[[], Sequence[Any]]
    sample: Sample
    key: str = ""
    numbers: tuple[int, ...] = (0,)
    failed: bool = False


class Predictor(Protocol):
    """Samples in, completions out."""

    left_out: set[str]
    """Names of parameters that it refuses to be asked, which is found out by asking; what is put in
    before is not asked."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that its completions depend on besides the questions, as JSON has it.

        Two runs with equal identities may share a predictions file.
        """

    def predict(self, questions: Iterable[Question]) -> Iterator[Completion]:
        """Answer each number of each question once, in any order, as answers come.

        Questions are taken from ``questions`` as there is room for them.
        """


def judge_status(text: str, cut_off: bool) -> Status:
    """What became of a question that got this completion.

    Args:
        text: the completion.
        cut_off: whether it reached the longest length.

    >>> judge_status("I'm sorry, but I can't help with that.", cut_off=False)
    'refused'
    >>> judge_status("<think>2: red", cut_off=True)
    'cut_off'
    >>> judge_status("I can't see it well, but <answer>2.color.red</answer>", cut_off=False)
    'answered'
    """
    if not text.strip():
        return "cut_off" if cut_off else "empty"
    if cut_off:
        return "cut_off"
    return "refused" if _REFUSAL.match(text) and "<answer>" not in text else "answered"


_REFUSAL: Final = re.compile(
    r"\s*(i['’]?m (very )?sorry|i am sorry|sorry\b|i (can['’]?t|cannot|can not|won['’]?t)\b"
    r"|i['’]?m (not able|unable)\b|i am (not able|unable)\b|as an ai\b)",
    re.IGNORECASE,
)
