"""Whose fate an error is, and which parameter it is about."""

import time
from typing import Any

import pytest

from star_r1.evaluate.refusals import find_refused, is_filtered, say


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "The response was filtered", "code": "content_filter"}},
        {"error": {"message": "Your request was rejected", "code": "content_policy_violation"}},
        {"error": {"message": "Input was flagged", "metadata": {"reasons": ["violence"]}}},
        {"code": "data_inspection_failed", "message": "Input data may contain ..."},
        {"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}},
        {"error": {"code": "1301", "message": "系统检测到输入内容可能包含不安全或敏感内容"}},
        {"error": {"message": "triggering Azure OpenAI's content management policy"}},
        {"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}, "message": "no"}},
        [{"error": {"status": "INVALID_ARGUMENT", "message": "rejected by our safety system"}}],
        {"detail": "Sensitive content was found"},
    ],
)
def test_words_of_filters(body: Any) -> None:
    assert is_filtered(body)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Your account was flagged; contact support"}},
        {"error": {"message": "This API key was suspended for prohibited content"}},
        {"error": {"message": "model names are case-sensitive"}},
        {"error": {"message": "Forbidden"}},
        {"error": {"message": "maximum context length is 4096 tokens"}},
        {"detail": [{"msg": "Field required", "input": {"text": "is it flagged as unsafe?"}}]},
        "",
        None,
        7,
    ],
)
def test_words_of_others(body: Any) -> None:
    assert not is_filtered(body)


def test_a_large_error_takes_no_time() -> None:
    body = {"error": [{"message": "a" * 50, "seed": {"loc": ["b"] * 5}}] * 10**5}
    began = time.process_time()
    assert not is_filtered(body)
    assert find_refused(body, SENT) is None
    assert time.process_time() - began < 1


SENT = ("temperature", "top_p", "seed", "max_completion_tokens")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"error": {"message": "Unsupported value: 'temperature' does not support 0"}}, SENT[0]),
        ({"error": {"message": "Temperature must be positive"}}, "temperature"),
        ({"error": {"message": "no", "param": "seed"}}, "seed"),
        ({"error": {"message": "temperature is fine", "param": "top_p"}}, "top_p"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "extra", "input": {"top_p": 1}}]}, "seed"),
        ([{"error": {"message": 'Unknown name "topP": Cannot find field.'}}], "top_p"),
        ({"error": {"message": "Unknown: seed. Known: model, temperature, top_p"}}, "seed"),
        ("Unrecognized request argument: max_completion_tokens", "max_completion_tokens"),
        ({"error": {"message": "the picture was seeded; max_tokens"}}, None),
        ({"error": {"message": "no"}, "request": {"seed": "seed"}}, None),
    ],
)
def test_the_parameter_that_an_error_is_about(body: Any, name: str | None) -> None:
    assert find_refused(body, SENT) == name


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"error": "a"}, "a"),
        ({"message": "a"}, "a"),
        ({"detail": "a"}, "a"),
        ([{"error": {"message": "a"}}], "a"),
        ("a", "a"),
        ({"error": None, "why": 1}, '{"error": null, "why": 1}'),
    ],
)
def test_the_words(body: Any, words: str) -> None:
    assert say(body) == words
