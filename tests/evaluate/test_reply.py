"""Ends, texts and reasonings of answers, in the ways in which providers write them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.evaluate.flight import Failed
from star_r1.evaluate.reply import read_answer, read_end

RIGHT = "<think>2: red</think><answer>2.color.red</answer>"
APART = "<answer>2.color.red</answer>"


def answer(message: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish, **more}]}


NAMES = {
    "whole": (
        *("stop", "STOP", "Stop", "FinishReason.STOP", "FINISH_REASON_STOP", "eos", "eos_token"),
        *("end_turn", "endTurn", "stop_sequence", "COMPLETE", "tool_calls", "tool_use"),
        *("function_call", "completed", "finish_reason: stop"),
    ),
    "cut_off": (
        *("length", "max_tokens", "MAX_TOKENS", "maxTokens", "max-tokens", "model_length"),
        *("max_output_tokens", "FinishReason.MAX_TOKENS", "model_context_window_exceeded"),
    ),
    "refused": (
        *("content_filter", "contentFilter", "content_filtered", "safety", "SAFETY", "RECITATION"),
        *("sensitive", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "refusal", "IMAGE_SAFETY"),
        "guardrail_intervened",
    ),
    "broken": (
        *("error", "network_error", "abort", "aborted", "cancelled", "ERROR"),
        "insufficient_system_resource",
    ),
    "unknown": (
        *(None, "", "null", "other", "stopped early", "nonstop", "eh", "FINISH_REASON_UNSPECIFIED"),
        *(3, True, ["stop"], {"reason": "stop"}, "stop" * 1000),
    ),
}


@pytest.mark.parametrize(
    ("reason", "end"), [(name, end) for end, names in NAMES.items() for name in names]
)
def test_ends_by_any_name(reason: Any, end: str) -> None:
    assert read_end(reason) == end
    body = answer({"content": RIGHT}, reason)
    if end in ("broken", "unknown"):
        with pytest.raises(Failed) as failed:
            read_answer(body)
        # What is unheard of comes again in the same words, and is not bought many times.
        assert failed.value.again == ("always" if end == "broken" else "once")
    else:
        status = {"whole": "answered"}.get(end, end)
        assert (read_answer(body).text, read_answer(body).status) == (RIGHT, status)


@pytest.mark.parametrize("finish", [None, "error", "eh"])
@pytest.mark.parametrize("content", [None, "", [], "<think>"])
def test_nothing_that_was_not_finished_is_kept(finish: Any, content: Any) -> None:
    with pytest.raises(Failed, match=r"the answer (ended with|does not say how it ended)"):
        read_answer(answer({"content": content}, finish))


def test_an_error_beside_a_whole_text_is_believed() -> None:
    with pytest.raises(Failed, match="upstream is away"):
        read_answer(answer({"content": RIGHT}, error={"message": "upstream is away"}))


@pytest.mark.parametrize(
    "message",
    [
        {"content": RIGHT},
        {"content": RIGHT, "reasoning_content": "2: red"},  # it stands in both
        {"content": APART, "reasoning_content": "2: red"},
        {"content": APART, "reasoning_content": "", "reasoning": "2: red"},
        {"content": APART, "reasoning": "<think>2: red</think>"},
        {"content": APART, "thinking": "2: red"},
        {"content": APART, "reasoning": {"content": "2: red"}},
        {"content": APART, "reasoning_details": [{"type": "reasoning.text", "text": "2: red"}]},
        {
            "content": APART,
            "reasoning_details": [
                {"type": "reasoning.encrypted", "data": "QQ=="},
                {"type": "reasoning.summary", "summary": "2: "},
                {"type": "reasoning.text", "text": "red"},
            ],
        },
        {"content": APART, "thinking_blocks": [{"type": "thinking", "thinking": "2: red"}]},
        {"content": [{"type": "thinking", "thinking": "2: red"}, {"type": "text", "text": APART}]},
        {"content": [{"type": "reasoning", "text": "2: red"}, APART]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "2: red"}]},
                {"type": "output_text", "text": APART},
            ]
        },
        {
            "content": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "2: red"}]},
                {"type": "hologram", "text": "what is this"},
                {"text": APART},
            ]
        },
        {"content": f"2: red</think>{APART}"},
        {"content": [{"type": "text", "text": f"2: red</think>{APART}"}]},
    ],
)
def test_reasoning_in_any_place_is_the_think_block(message: dict[str, Any]) -> None:
    found = read_answer(answer(message))
    assert (found.text, found.status) == (RIGHT, "answered")


@pytest.mark.parametrize(
    ("message", "text", "status"),
    [
        ({"content": None}, "", "empty"),
        ({}, "", "empty"),
        ({"content": None, "tool_calls": [{"type": "function"}]}, "", "empty"),
        ({"content": None, "refusal": "I can't."}, "I can't.", "refused"),
        ({"content": [{"type": "refusal", "refusal": "I can't."}]}, "I can't.", "refused"),
        ({"content": RIGHT, "refusal": "no"}, RIGHT, "answered"),
        ({"content": [{"type": "redacted_thinking", "data": "x"}]}, "", "empty"),
    ],
)
def test_what_is_said_without_an_answer(message: Any, text: str, status: str) -> None:
    found = read_answer(answer(message))
    assert (found.text, found.status) == (text, status)


@pytest.mark.parametrize(
    ("body", "says", "again"),
    [
        ("<html>", "no JSON: <html>", "always"),
        ({"choices": []}, "no choice in it", "always"),
        ({"choices": [{"text": "a", "finish_reason": "stop"}]}, "no choice in it", "always"),
        ([], "no choice in it", "always"),
        (None, "no choice in it", "always"),
        ('data: {"choices": []}\n\ndata: [DONE]\n', "a stream, which was not asked for", "never"),
        (answer({"content": 7}), "its content is int", "never"),
        (answer({"content": [{"type": "audio"}]}), "a part of type 'audio'", "never"),
    ],
)
def test_what_cannot_be_read(body: Any, says: str, again: str) -> None:
    with pytest.raises(Failed, match="the answer is unreadable: ") as failed:
        read_answer(body)
    assert says in failed.value.why
    assert failed.value.again == again


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "thinking", "refusal", "reasoning", "summary"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, JSON, st.sampled_from(["stop", "length", None, "error", "safety"]), JSON)
def test_any_message_is_read_or_failed(content: Any, thoughts: Any, end: Any, usage: Any) -> None:
    message = {"content": content, "reasoning": thoughts, "refusal": thoughts}
    try:
        found = read_answer(answer(message, end) | {"usage": usage})
    except Failed:
        return
    assert isinstance(found.text, str)
    assert end not in (None, "error")
