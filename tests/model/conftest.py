"""Tiny checkpoints of the three families that training knows."""

from pathlib import Path

import pytest
from tests.tiny import make_tiny

FAMILIES = {
    "qwen2_vl": "Qwen/Qwen2-VL-7B-Instruct",
    "qwen2_5_vl": "Qwen/Qwen2.5-VL-7B-Instruct",
    "qwen3_vl": "Qwen/Qwen3-VL-4B-Instruct",
}


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """One of the families."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def checkpoint(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint of it, in the published layout; not to be written to."""
    return make_tiny(tmp_path_factory.mktemp(family), FAMILIES[family])
