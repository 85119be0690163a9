"""What the errors of an endpoint say: a filter's word, the key's rights, a parameter refused."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Final

_CODES: Final = re.compile(
    r"content_?(filter|policy|moderation|violation)|data_inspection|moderation_?blocked|safety_?"
    r"(violation|blocked)|prohibited_?content|sensitive_?(words?|content)|new_sensitive|guardrail",
    re.IGNORECASE,
)
_WORDS: Final = re.compile(
    r"content[ _-]?(filter|policy|moderation|exists risk|management policy|violat|safety)"
    r"|\bmoderation\b|\bflagged\b|data[ _-]inspection|inappropriate content|guardrail"
    r"|responsible[ _-]?ai|usage polic|safety (system|filter|polic|reason)"
    r"|(?<!case[ -])\bsensitive\b|\bunsafe\b|prohibited[ _]content|harmful content"
    r"|敏感|违规|不安全|违法",
    re.IGNORECASE,
)
_ACCOUNT: Final = re.compile(
    r"\b(your|this|the|user) (account|organi[sz]ation|project|team|workspace)\b"
    r"|\bapi[ _-]?key\b|suspended|banned|billing",
    re.IGNORECASE,
)
_RIGHTS: Final = re.compile(
    r"api[ _-]?key|credential|permission|scope|authori[sz]|authenticat|\btoken\b|account"
    r"|organi[sz]ation|project|subscri|billing|country|region|territory|not (allowed|available)"
    r"|access to",
    re.IGNORECASE,
)
_ECHOES: Final = ("input", "request", "body", "ctx", "messages")
"""Fields of errors that repeat what was sent."""
_READ: Final = 4000
_TEXTS: Final = 100
"""Characters of each text of an error, and texts, that are looked at."""


def say(body: object) -> str:
    """What the endpoint says of its error, out of the forms that servers give it.

    >>> say([{"error": {"code": 400, "message": "no seed"}}]), say({"detail": "Not Found"})
    ('no seed', 'Not Found')
    """
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    for name in ("error", "message", "detail"):
        if isinstance(body, Mapping):
            body = body.get(name) or body
    return body if isinstance(body, str) else json.dumps(body, default=str)


def is_filtered(body: object) -> bool:
    """Whether a filter turned the question down, and not somebody's account.

    >>> is_filtered({"error": {"code": "data_inspection_failed", "message": "Input data may ..."}})
    True
    >>> is_filtered({"error": {"message": "Your account was flagged; contact us"}})
    False
    """
    codes = " ".join(text for name, text in _strings(body) if name in ("code", "type", "reason"))
    words = _words(body)
    return bool(_CODES.search(codes) or (_WORDS.search(words) and not _ACCOUNT.search(words)))


def has_code(body: object, code: str) -> bool:
    """Whether an error has this code or type."""
    return any(name in ("code", "type") and text == code for name, text in _strings(body))


def is_about_rights(body: object) -> bool:
    """Whether an error speaks of what the key may do."""
    return bool(_RIGHTS.search(_words(body)))


def find_refused(body: object, parameters: Collection[str]) -> str | None:
    """The one of the parameters that an error is about: where it has a field for that, or first.

    >>> error = {"error": {"message": "Unknown name 'seed'. Known: model, temperature, ..."}}
    >>> find_refused(error, ("temperature", "seed"))
    'seed'
    """
    fields = " ".join(text for name, text in _strings(body) if name in ("param", "loc"))
    for words in (fields, _words(body)):
        found = {name: match.start() for name in parameters if (match := _name(name).search(words))}
        if found:
            return min(found, key=found.__getitem__)
    return None


def _name(parameter: str) -> re.Pattern[str]:
    """A parameter's name in a text: ``top_p``, ``topP``, ``Top p``."""
    parts = "[ _-]?".join(map(re.escape, parameter.split("_")))
    return re.compile(rf"(?<![a-z]){parts}(?![a-z_])", re.IGNORECASE)


def _words(body: object) -> str:
    return " ".join(text for _, text in _strings(body))


def _strings(body: object) -> Iterator[tuple[str, str]]:
    """The first texts of an error, with the names of their fields."""
    return islice(_walk(body, "", 0), _TEXTS)


def _walk(body: object, name: str, depth: int) -> Iterator[tuple[str, str]]:
    """All of them, but for what it repeats of the question."""
    if isinstance(body, str):
        yield name, body[:_READ]
    elif isinstance(body, int):
        yield name, str(body)
    elif depth < 6 and name not in _ECHOES:
        if isinstance(body, Mapping):
            for key, value in body.items():
                if key not in _ECHOES:
                    yield from _walk(value, str(key).lower(), depth + 1)
        elif isinstance(body, list):
            for value in body:
                yield from _walk(value, name, depth + 1)
