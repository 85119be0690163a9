"""When an endpoint wants to be asked again, in whatever form it says so."""

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

_UNITS: Final = {"m": 60.0, "s": 1.0, "h": 3600.0, "d": 86400.0}
_AMOUNT: Final = (
    r"\d+(?:\.\d+)?\s*"
    r"(?:ms|milliseconds?|minutes?|mins?|m|seconds?|secs?|s|hours?|hrs?|h|days?|d)(?![a-z])"
)
_AMOUNTS: Final = re.compile(_AMOUNT)
_WORDS: Final = re.compile(
    r"\b(?:again|retry|retrying|wait|waiting)\b(?:\s+(?:in|after|for|at least|about))*\s*:?\s*"
    rf"((?:{_AMOUNT}[\s,]*(?:and\s+)?)+)"
)
_READ: Final = 4000
"""Characters of an endpoint's words that are looked at."""
_LONGEST: Final = 100
"""The same of a header or a field."""
_MOMENT: Final = 1e8
"""A greater number of seconds, three years, is a moment since 1970 and no span."""


def read_wait(status: int, headers: Mapping[str, str], body: Any, said: str) -> float:
    """Seconds until the endpoint wants to be asked again; 0 where it does not say.

    Args:
        status: of HTTP; the ends of limits on the rate matter after 429 alone.
        headers: with names in any case.
        body: as JSON has it, or anything.
        said: the endpoint's words.

    Returns:
        The longest of ``retry-after-ms``, ``Retry-After`` (seconds or a date), fields of the body
        such as ``retryDelay`` of google.rpc.RetryInfo, and what the words say ("try again in
        1m2.5s"); where there is none of them, of the limits that are used up
        (``x-ratelimit-reset-tokens: 6ms``). It may be infinite.

    >>> read_wait(429, {}, None, "Rate limit reached. Please try again in 1m2.5s.")
    62.5
    >>> read_wait(503, {"Retry-After": "7"}, None, "")
    7.0
    """
    headers = {name.lower(): value for name, value in headers.items()}
    # The endpoint's own clock, where it tells the time.
    now = _moment(headers.get("date", "")) or time.time()
    waits = [
        _number(headers.get("retry-after-ms", "")) / 1000,
        _span(headers.get("retry-after", ""), now),
        *_in_body(body),
        *(_span(words, now) for words in _WORDS.findall(said[:_READ].lower())),
    ]
    if not any(waits) and status == 429:
        waits += _resets(headers, now)
    return max(waits)


def _in_body(body: Any, depth: int = 0) -> Iterator[float]:
    """What the fields of a body say: ``retryDelay``, ``retry_after``, ..., wherever they stand."""
    if depth > 5:
        return
    if isinstance(body, list):
        for one in body[:20]:
            yield from _in_body(one, depth + 1)
    elif isinstance(body, Mapping):
        for name, value in list(body.items())[:50]:
            plain = re.sub("[^a-z]", "", str(name).lower())
            if plain in ("retrydelay", "retryafter", "retryafterseconds"):
                yield _duration(value)
            elif plain == "retryafterms":
                yield _duration(value) / 1000
            else:
                yield from _in_body(value, depth + 1)


def _duration(value: Any) -> float:
    """As protobuf's JSON has it, ``34.07s`` or ``{"seconds": 34, "nanos": 70000000}``; or plain."""
    if isinstance(value, Mapping):
        return _number(value.get("seconds", 0)) + _number(value.get("nanos", 0)) / 1e9
    return _span(str(value), 0.0)


def _resets(headers: Mapping[str, str], now: float) -> Iterator[float]:
    """When each limit begins anew of which nothing remains, or nothing is said to remain."""
    for name, value in headers.items():
        remaining = headers.get(name.replace("reset", "remaining"), "0")
        if "ratelimit" in name and "reset" in name and _number(remaining) == 0:
            yield _span(value, now)


def _span(text: str, now: float) -> float:
    """Seconds that a number, a duration or a moment stands for; 0 where it is none of them."""
    text = text[:_LONGEST].strip().strip('"').lower()
    if amounts := _AMOUNTS.findall(text):
        return sum(map(_seconds, amounts))
    number = _number(text)
    if number > 1000 * _MOMENT:
        number /= 1000  # milliseconds since 1970
    if number and number <= _MOMENT:
        return number
    return max((number or _moment(text)) - now, 0.0)


def _seconds(amount: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)\s*([a-z]+)", amount).groups()  # type: ignore[union-attr]
    scale = 1e-3 if unit.startswith(("ms", "milli")) else _UNITS[unit[0]]
    return float(number) * scale


def _number(text: Any) -> float:
    """0 for what is none, or negative."""
    try:
        number = float(text)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if number > 0 else 0.0


def _moment(text: str) -> float:
    """Seconds since 1970 of a date as RFC 3339 or HTTP has it; 0 where it is none."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text[:_LONGEST].strip().upper())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (TypeError, ValueError, IndexError, OverflowError):
            continue
    return 0.0
