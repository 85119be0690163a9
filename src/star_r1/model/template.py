"""Conversations as the text of prompts, by the model's own chat template."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from star_r1.errors import UserError


def render(
    processor: Any,
    conversations: Sequence[Sequence[Mapping[str, Any]]],
    settings: Mapping[str, Any] | None = None,
) -> list[str]:
    """The text of each conversation, up to where the model's turn begins.

    Args:
        processor: with a chat template.
        conversations: chat messages, pictures or their placeholders in them.
        settings: ``chat_template_kwargs``: variables of the template, such as
            ``{"enable_thinking": False}``.

    Raises:
        UserError: the processor has no chat template, or one that does not take these messages or
            knows no such variable.

    >>> from star_r1.model.processor import build_processor
    >>> render(build_processor(), [[{"role": "user", "content": "Find: 3"}]])
    ['<|im_start|>user\\nFind: 3<|im_end|>\\n<|im_start|>assistant\\n']
    """
    settings = settings or {}
    check_settings(processor, settings)
    try:
        texts: list[str] = processor.apply_chat_template(
            [list(conversation) for conversation in conversations],
            add_generation_prompt=True,
            tokenize=False,
            **settings,
        )
    except (TypeError, ValueError, TemplateError) as error:
        using = f" with chat_template_kwargs {json.dumps(settings)}" if settings else ""
        raise UserError(
            f"the model's chat template does not take this conversation{using} "
            f"({' '.join(str(error).split())}); give a model that was trained to chat, with its "
            "chat_template.jinja"
        ) from None
    return texts


def check_settings(processor: Any, settings: Mapping[str, Any]) -> None:
    """See that each of ``settings``, as for ``render``, can change a prompt.

    Jinja takes any variable and ignores the ones that a template does not mention.

    Raises:
        UserError: it is no variable of the template.
    """
    taken = inspect.signature(processor.apply_chat_template).parameters
    template = str(getattr(processor, "chat_template", None))
    for name in settings:
        if name in taken:
            raise UserError(
                f"chat_template_kwargs {name}: that is no variable of the template but an argument "
                "of the call, which is set here; leave it out"
            )
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise UserError(
                f"chat_template_kwargs {name}: the model's chat template has no such variable, so "
                "it would change nothing; leave it out"
            )
