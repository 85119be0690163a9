"""Every form in which endpoints say when they want to be asked again."""

import time
from typing import Any

import pytest

from star_r1.evaluate.waits import read_wait

NOON = {"Date": "Wed, 21 Oct 2015 12:00:00 GMT"}
INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"Retry-After": "Wed, 21 Oct 2015 12:00:30 GMT", **NOON}, 30),
        ({"Retry-After": "Wed, 21 Oct 2015 11:00:30 GMT", **NOON}, 0),
        ({"Retry-After": "2m"}, 120),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 2),
        ({"x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-reset-tokens": "6ms"}, 0.006),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "9"}, 0),
        ({"x-ratelimit-reset-requests": "2s", "x-ratelimit-reset-tokens": "5s"}, 5),
        ({"x-ratelimit-reset-requests": "9s", "Retry-After": "1"}, 1),
        ({"RateLimit-Reset": "30", "RateLimit-Remaining": "0"}, 30),
        ({"anthropic-ratelimit-requests-reset": "2015-10-21T12:00:30Z", **NOON}, 30),
        ({"X-RateLimit-Reset": "1445428830", **NOON}, 30),
        ({"X-RateLimit-Reset": "1445428830000", **NOON}, 30),
        ({"Retry-After": "1e400"}, float("inf")),
        *(({"Retry-After": text}, 0) for text in ("", "nan", "-5", "soon", "0", "\x00")),
    ],
)
def test_headers(headers: dict[str, str], seconds: float) -> None:
    assert read_wait(429, headers, None, "") == pytest.approx(seconds)


def test_a_date_counts_from_now_where_the_endpoint_tells_no_time() -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    assert 50 < read_wait(503, {"Retry-After": date}, None, "") <= 60


def test_limits_matter_where_one_is_broken_alone() -> None:
    assert read_wait(500, {"x-ratelimit-reset-requests": "24h"}, None, "") == 0


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"details": [INFO | {"retryDelay": "34.07s"}]}}, 34.07),
        ([{"error": {"details": [{"other": 1}, INFO | {"retryDelay": "34s"}]}}], 34),
        ({"error": {"details": [INFO | {"retryDelay": {"seconds": 3, "nanos": 5e8}}]}}, 3.5),
        ({"retry_after": 12}, 12),
        ({"error": {"metadata": {"retryAfter": "12"}}}, 12),
        ({"retry_after_ms": 1500}, 1.5),
        ({"retry_after": None}, 0),
        ({"retry_after": ["soon"]}, 0),
        ("retry", 0),
    ],
)
def test_bodies(body: Any, seconds: float) -> None:
    assert read_wait(429, {}, body, "") == pytest.approx(seconds)


def test_hostile_texts_take_no_time() -> None:
    began = time.process_time()
    for text in ("9" * 10**6, "9." * 10**6, "1s," * 10**6, "9 " * 10**6):
        read_wait(429, {"Retry-After": text, "Date": text}, {"retry_after": text}, f"wait {text}")
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Limit 30000, Requested 900. Please try again in 20s.", 20),
        ("Please try again in 1m2.5s. Visit https://host/1s", 62.5),
        ("Please try again in 6ms.", 0.006),
        ("Please retry in 34.074824224s.", 34.074824224),
        ("Please retry after 20 seconds.", 20),
        ("try again after 2 minutes", 120),
        ("Please wait 1 minute and 30 seconds before the next request", 90),
        ("wait at least 1h2m3s", 3723),
        ("no more than 20 requests in 5 s", 0),
        ("again and again 5 shapes", 0),
        ("wait " + "9" * 5000, 0),
    ],
)
def test_words(words: str, seconds: float) -> None:
    assert read_wait(429, {}, None, words) == pytest.approx(seconds)
