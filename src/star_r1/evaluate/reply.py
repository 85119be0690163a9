"""What the answer of an endpoint says: the text, how it ended, and whether it can be believed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from star_r1.evaluate.flight import Failed
from star_r1.evaluate.predictions import Status
from star_r1.evaluate.predictor import judge_status
from star_r1.evaluate.refusals import say
from star_r1.tvr.answer import whole

End: TypeAlias = Literal["whole", "cut_off", "refused", "broken", "unknown"]
"""How a completion ended. ``broken``: the endpoint says itself that it did not come to its end.
``unknown``: for all that is said, it may not have."""

_ENDS: Final[Mapping[End, str]] = {
    "whole": "stop eos eostoken eosfound endturn endofturn stopsequence stopsequences stoptoken "
    "end endofsequence endoftext complete completed finish finished done normal "
    "toolcall toolcalls tooluse functioncall functioncalls",
    "cut_off": "length lengthlimit maxlength maxtoken maxtokens maxtokensreached maxoutputtokens "
    "maxcompletiontokens maxnewtokens outputlength tokenlimit tokenlimitreached modellength "
    "contextlength contextlengthexceeded maxcontextlength modelcontextwindowexceeded errorlimit",
    "refused": "contentfilter contentfiltered contentfiltering contentpolicy errortoxic "
    "contentpolicyviolation safety imagesafety recitation imagerecitation sensitive spii "
    "prohibitedcontent imageprohibitedcontent blocklist blocked refusal refused moderation "
    "moderated flagged guardrail guardrails guardrailintervened guardrailsviolation",
    "broken": "error networkerror servererror internalerror abort aborted cancel cancelled "
    "canceled usercancel timeout interrupted disconnected overloaded insufficientsystemresource "
    "insufficientsystemresources",
}
"""The names that providers give to the ends of completions, without case, gaps and prefixes."""

_END_OF_NAME: Final[Mapping[str, End]] = {
    name: end for end, names in _ENDS.items() for name in names.split()
}
_MOST_TOKENS: Final = 10**9
"""No answer has more; who counts more counts wrong."""
_DEEPEST: Final = 3
"""Lists within lists of parts."""
_TEXTS: Final = ("text", "output_text", "input_text", None)
_THOUGHTS: Final = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "reasoning_details",
    "thinking_blocks",
)
"""Where endpoints hand over the reasoning beside the content; some in several of them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Text, status and tokens of a completion, as ``predictions.Completion`` has them."""

    text: str
    status: Status
    prompt_tokens: int
    completion_tokens: int


def read_answer(body: Any) -> Answer:
    """Read the body of an answer with the status 200.

    Args:
        body: as JSON has it, or the text where it is none; nothing of it is relied on.

    Raises:
        Failed: there is no text in it in any known form, or it is doubtful that it came to its end.

    >>> choice = {"message": {"content": "<answer>none</answer>"}, "finish_reason": "STOP"}
    >>> read_answer({"choices": [choice]}).status
    'answered'
    """
    choice = _first_choice(body)
    message = choice["message"]
    said = _Said()
    said.read(message.get("content"))
    if isinstance(refusal := message.get("refusal"), str):
        said.refusals.append(refusal)
    thoughts = said.thoughts or _thoughts_apart(message)
    text, refusal = "".join(said.texts), "".join(said.refusals)
    end = "broken" if choice.get("error") else read_end(choice.get("finish_reason"))
    if end in ("broken", "unknown"):
        raise Failed(_why(choice, text), again="always" if end == "broken" else "once")
    status: Status
    if end == "refused" or (refusal and not text):
        text, status = text or refusal, "refused"
    elif said.others and not (text or thoughts):
        kinds = ", ".join(sorted(said.others))
        raise Failed(f"the answer is unreadable: its content is {kinds}", again="never")
    else:
        status = judge_status(text or thoughts, cut_off=end == "cut_off")
        text = whole(text, reasoning=thoughts)
    usage = body.get("usage")
    return Answer(text, status, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))


def read_end(reason: Any) -> End:
    """What a ``finish_reason`` means, whatever the provider's way to write it.

    >>> read_end("FinishReason.MAX_TOKENS"), read_end("content-filter"), read_end(None)
    ('cut_off', 'refused', 'unknown')
    """
    if not isinstance(reason, str):
        return "unknown"
    name = re.sub("[^a-z]", "", reason[:100].lower())
    return _END_OF_NAME.get(re.sub("^(finish|stop)reason", "", name), "unknown")


def _first_choice(body: Any) -> Mapping[str, Any]:
    """The choice of an answer, which has a message."""
    choices = body.get("choices") if isinstance(body, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, Mapping) and isinstance(choice.get("message"), Mapping):
        return choice
    if isinstance(body, str) and body.lstrip().startswith(("data:", "event:")):
        raise Failed("the answer is unreadable: a stream, which was not asked for", again="never")
    # A page of a proxy, or half an answer: that may pass.
    what = "no JSON" if isinstance(body, str) else "no choice in it"
    raise Failed(f"the answer is unreadable: {what}: {body}")


class _Said:
    """The texts of a content, which some servers hand over in parts, by what they are."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.thoughts = ""
        self.others: set[str] = set()

    def read(self, content: Any) -> None:
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, str):
                self.texts.append(part)
            elif isinstance(part, Mapping):
                self._read_part(part)
            elif part is not None:
                self.others.add(type(part).__name__)

    def _read_part(self, part: Mapping[str, Any]) -> None:
        kind, text = part.get("type"), part.get("text")
        if kind in _TEXTS and isinstance(text, str):
            self.texts.append(text)
        elif kind == "refusal" and isinstance(part.get("refusal"), str):
            self.refusals.append(part["refusal"])
        elif isinstance(kind, str) and ("reasoning" in kind or "think" in kind):
            self.thoughts += _thoughts(part)
        else:
            self.others.add(f"a part of type {kind!r}")


def _thoughts_apart(message: Mapping[str, Any]) -> str:
    """What a model thought, where it stands beside the content."""
    return next(filter(None, (_thoughts(message.get(name)) for name in _THOUGHTS)), "")


def _thoughts(part: Any, depth: int = 0) -> str:
    """The text of a reasoning: plain, or in parts; what is encrypted in it stays away."""
    if isinstance(part, str):
        return part
    if depth > _DEEPEST:
        return ""
    if isinstance(part, list):
        return "".join(_thoughts(one, depth + 1) for one in part)
    if isinstance(part, Mapping):
        names = ("thinking", "reasoning", "reasoning_content", "text", "summary", "content")
        found = (_thoughts(part.get(name), depth + 1) for name in names)
        return next(filter(None, found), "")
    return ""


def _why(choice: Mapping[str, Any], text: str) -> str:
    """What is doubtful about an end."""
    reason, error = choice.get("finish_reason"), choice.get("error")
    ended = "does not say how it ended" if reason is None else f"ended with {reason!r}"
    rest = f"{say(error)}" if error else f"{len(text)} characters that may be a part"
    return f"the answer {ended} (finish_reason): {rest}"


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0
