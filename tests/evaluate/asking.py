"""What tests of endpoints share: questions, and how they are asked."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.evaluate.misbehaving_server import Server, hash_question

from star_r1.evaluate.endpoint import Endpoint, to_openai
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.predictor import Question

KEY = "sk-0123456789abcdef"
ROWS = 24
QUICK: Mapping[str, Any] = {"retries": 2, "timeout": 30.0, "concurrency": ROWS}

Serve = Callable[..., Server]


def always(did: str) -> Callable[[str, int], str]:
    """A plan of one thing."""
    return lambda question, attempt: did


def hash_of(question: Question, seed: int | None = None) -> str:
    """Under which the server knows a question."""
    return hash_question(to_openai(question.messages, question.see()), seed)


def predict(questions: list[Question], **changed: Any) -> dict[str, Completion]:
    """Ask, and see that each answer comes once."""
    done = list(Endpoint("m", **{**QUICK, **changed}).predict(questions))
    assert len({(one.id, one.number) for one in done}) == len(done)
    return {one.id: one for one in done}
