"""The examples in the docstrings are run."""

import doctest
from types import ModuleType

import pytest

from star_r1.train import grpo, run


@pytest.mark.parametrize("module", [grpo, run])
def test_examples(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
