"""Servers and questions for the tests of endpoints."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.asking import KEY, Serve
from tests.evaluate.misbehaving_server import Server

from star_r1.data.dataset import load
from star_r1.evaluate.predictor import Question
from star_r1.evaluate.questions import ask


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server, and lets the environment name it."""
    servers: list[Server] = []

    def start(*words: Any, **settings: Any) -> Server:
        server = Server(*words, **settings).__enter__()
        servers.append(server)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        return server

    yield start
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def questions(data_folder: Path) -> list[Question]:
    """A row each, as they are asked."""
    rows = load(data_folder)
    return list(ask(rows, dict.fromkeys(rows["id"], "key")))
