"""The examples in the docstrings are run."""

import doctest
import importlib
from pathlib import Path

import pytest

import star_r1

SOURCE = Path(star_r1.__file__).parent
MODULES = sorted(
    ".".join(("star_r1", *path.relative_to(SOURCE).with_suffix("").parts))
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text() and path.name != "__init__.py"
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    assert result.attempted > 0


@pytest.mark.parametrize("package", ["reward", "tvr"])
def test_what_others_call_has_examples(package: str) -> None:
    with_examples = {name.rpartition(".")[0] for name in MODULES}
    assert f"star_r1.{package}" in with_examples
