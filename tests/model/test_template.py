"""Conversations as text: what a template does not take, or does not read, is one line."""

from typing import Any

import pytest

from star_r1.errors import UserError
from star_r1.model.processor import build_processor
from star_r1.model.template import render

CONVERSATION = [{"role": "user", "content": "Find: 3"}]
THINKING = "{{ messages[0].content }}{% if enable_thinking %}<think>{% endif %}"


@pytest.mark.parametrize(("on", "text"), [(True, "Find: 3<think>"), (False, "Find: 3")])
def test_variables_of_the_template(on: bool, text: str) -> None:
    processor = build_processor()
    processor.chat_template = THINKING
    assert render(processor, [CONVERSATION], {"enable_thinking": on}) == [text]


@pytest.mark.parametrize(
    ("template", "settings", "message"),
    [
        (THINKING, {"enable_thinkin": 1}, "kwargs enable_thinkin: the .* has no such variable"),
        (THINKING, {"tokenize": True}, "kwargs tokenize: .* an argument of the call"),
        (None, {}, "chat template does not take this conversation"),
        ("{{ raise_exception('no\nsystem role') }}", {}, r"conversation \(no system role\)"),
        ("{{ 1 + depth }}", {"depth": "a"}, 'with chat_template_kwargs {"depth": "a"}'),
    ],
)
def test_what_it_does_not_take(template: str | None, settings: Any, message: str) -> None:
    processor = build_processor()
    processor.chat_template = template
    with pytest.raises(UserError, match=message) as caught:
        render(processor, [CONVERSATION], settings)
    assert "\n" not in str(caught.value)
