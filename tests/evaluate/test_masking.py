"""No form of a secret is left, and no word that only looks like a part of one is lost."""

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.evaluate.masking import Masking, without_secrets

KEY = "sk-a+b/0123456789?x=1&\"y'"
URL = "https://me:pa%24s-w0rd@host/v1?token=t0ken-in-the-url&other=1"


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY, safe=""),
        json.dumps(KEY)[1:-1],
        base64.b64encode(KEY.encode()).decode(),
        base64.b64encode(f"Bearer {KEY}".encode()).decode(),
        base64.urlsafe_b64encode(b"me:pa$s-w0rd").decode(),
        base64.b64encode(b"me:pa%24s-w0rd").decode(),
        "me:pa%24s-w0rd",
        "pa$s-w0rd",
        "token=t0ken-in-the-url&other=1",
        "t0ken-in-the-url",
    ],
)
@pytest.mark.parametrize("frame", ["{}", "key={}", "x{}x", '{{"key": "{}"}}', "Bearer {}, again"])
def test_no_form_of_a_secret_is_left(form: str, frame: str) -> None:
    masked = Masking(KEY, URL).message(frame.format(form))
    assert form not in masked
    assert "***" in masked


def test_the_beginning_of_a_secret_that_was_cut_off() -> None:
    said = "Bearer t0ken-in-the..., t0ken-in"  # the latter is too little of it to be of use
    assert Masking(KEY, URL).message(said) == "Bearer ***, t0ken-in"


def test_a_short_key_leaves_words_whole() -> None:
    masking = Masking("a", "https://u:p@host/v1")
    assert masking.message("a key a, u and p: a bad apple up") == (
        "*** key ***, *** and ***: *** bad apple up"
    )


@pytest.mark.parametrize("key", ["none", "2", "red", "cylinder", "a"])
def test_an_answer_is_not_masked_by_words_that_it_may_hold(key: str) -> None:
    said = "<think>2: a red cylinder</think><answer>none, 2.shape.cylinder, 2.color.red</answer>"
    assert Masking(key, "https://host/v1").completion(said) == said


def test_an_answer_that_repeats_a_key_loses_it() -> None:
    assert Masking(KEY, URL).completion(f"you sent {KEY} and t0ken-in-the-url") == (
        "you sent *** and ***"
    )


@given(st.text(min_size=8).filter(str.strip), st.text(), st.text())
def test_any_long_key_anywhere(key: str, before: str, after: str) -> None:
    assert key not in Masking(key, "").message(before + key + after) or key in "***"


def test_long_texts_take_no_time() -> None:
    masking, text = Masking(KEY, URL), "sk-a+b/" * 10**6
    began = time.process_time()
    assert masking.completion(text) == text
    assert time.process_time() - began < 2


def test_without_a_key_all_stays() -> None:
    text = "Bearer no-key-given, QmVhcmVyIA==, a, 1"
    assert Masking("", "http://host:8000/v1").message(text) == text


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://me:pass@host:1/v1/?token=t#f", "https://host:1/v1"),
        ("https://host", "https://host"),
        ("https://host/a?b=c@d", "https://host/a"),
        ("http://", "http://"),
        ("localhost:8000", "localhost:8000"),
    ],
)
def test_an_address_without_secrets(url: str, place: str) -> None:
    assert without_secrets(url) == place
