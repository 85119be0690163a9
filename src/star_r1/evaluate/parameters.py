"""What an endpoint is asked beside the question, without what it refuses."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from star_r1.errors import UserError
from star_r1.evaluate.refusals import find_refused, is_filtered
from star_r1.evaluate.wire import Reply

_LIMITS: Final = ("max_completion_tokens", "max_tokens")
"""The limit's name, and the only one that older servers know."""
_REFUSALS: Final = (400, 422, 501)
"""Statuses of who does not take a parameter, or its value."""

WITHOUT: Final[Mapping[str, str]] = {
    "temperature": "it draws its answers as it does by itself (--temperature)",
    "top_p": "it draws from as many tokens as it does by itself (--top-p)",
    "seed": "the same command may draw other answers (--seed)",
}
"""The parameters that may be left out, and what follows then."""

FLAGS: Final[Mapping[str, str]] = {
    **{name: f"--{name.replace('_', '-')}" for name in (*WITHOUT, "detail")},
    **dict.fromkeys(_LIMITS, "--max-new-tokens"),
}
"""Parameter -> the flag for it."""

_OWN: Final[Mapping[str, str]] = {
    **{name: f"give {flag}" for name, flag in FLAGS.items() if name != "detail"},
    "model": "give --model endpoint:NAME",
    "messages": "give --data, --prompt and --few-shot",
    "n": "give --samples-per-prompt",
    **dict.fromkeys(("stream", "stream_options"), "answers are read whole"),
}
"""Fields of a request that are ours, and what to do instead."""


class Parameters:
    """The parameters of an endpoint's requests; those that it refuses are left out.

    Attributes:
        left_out: their names; one that is put in is not sent any more.
    """

    def __init__(
        self,
        optional: Mapping[str, Any],
        seed: int | None,
        max_new_tokens: int,
        extra: Mapping[str, Any],
    ) -> None:
        """What is sent beside model and messages.

        Args:
            optional: of ``WITHOUT``, but for the seed.
            seed: of the first completion of a row; None to send none.
            max_new_tokens: the limit, under the name that the endpoint takes.
            extra: the user's own, from ``check_extra``.
        """
        self._optional, self._seed = optional, seed
        self._max_new_tokens, self._extra = max_new_tokens, extra
        self._limits: tuple[str, ...] = _LIMITS
        self.left_out: set[str] = set()

    async def send(
        self,
        post: Callable[[Mapping[str, Any]], Awaitable[Reply]],
        number: int,
        tell: Callable[[str, Any, Reply], None],
    ) -> Reply:
        """Ask for a completion, without what the endpoint refuses.

        A parameter is left out for good once an answer came without it.

        Args:
            post: sends a request with these fields.
            number: of the completion, of those of its row.
            tell: is called with name, value and refusal of what is left out from now on.
        """
        optional = {**self._optional}
        if self._seed is not None:
            optional["seed"] = self._seed + number
        limits = list(self._limits)
        refused: dict[str, Reply] = {}
        while True:
            left = self.left_out | refused.keys()
            sent = {name: value for name, value in optional.items() if name not in left}
            reply = await post({**sent, limits[0]: self._max_new_tokens, **self._extra})
            if reply.status not in _REFUSALS or is_filtered(reply.body):
                break
            name = find_refused(reply.body, (*sent, limits[0]))
            if name is None:
                break
            refused[name] = reply
            if name == limits[0]:
                del limits[0]
                if not limits:  # neither name helps: it is about the number
                    return refused[self._limits[0]]
        if reply.is_answer:
            self._limits = (limits[0],)
            for name in optional.keys() & refused.keys() - self.left_out:
                self.left_out.add(name)
                tell(name, optional[name], refused[name])
        return reply


def check_extra(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user's own fields of a request; raises a UserError where they are ours, or no JSON."""
    for name in extra:
        if name in _OWN:
            raise UserError(f"--extra-body: {name!r} has its own place; {_OWN[name]}")
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"--extra-body: no JSON ({error}); give an object of JSON") from None
    return extra
