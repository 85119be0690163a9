"""Which module may import what: the rules of docs/architecture.md, read from the source.

That the command line loads nothing heavy at its start is tested in test_cli.py.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import star_r1

ROOT = Path(star_r1.__file__).parent

LEVELS = (
    ("errors", "texts", "interrupts"),
    ("files", "intervals", "progress", "provenance"),
    ("yaml_file",),
    ("tvr",),
    ("reward", "metrics", "render"),
    ("trance_metrics", "data"),
    ("model",),
    ("train",),
    ("evaluate",),
    ("analyze",),
    ("report", "explore"),
    ("demo",),
    ("cli",),
)
"""The flow. A part imports from the levels before its own, and from itself."""
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}

PURE = {
    "tvr": {"tvr", "errors"},
    "reward": {"tvr", "reward", "errors"},
    "intervals": set(),
    "metrics": {"tvr", "reward", "intervals", "errors"},
    "trance_metrics": {"tvr", "metrics", "intervals", "errors"},
}
"""Parts that the standard library and numpy are enough for -> the parts they may import."""

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.parent != ROOT or path.name != "__init__.py"
}


def imported(path: Path) -> Iterator[str]:
    """Every absolute name that a module imports anywhere, ``package.name`` for ``from`` imports."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_imported(path: Path) -> set[str]:
    """The parts of the project that a module imports; its version is none."""
    names = (name.split(".") for name in imported(path))
    return {name[1] for name in names if name[0] == "star_r1" and name[1:]} - {"__version__"}


def test_every_part_has_its_place() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(LEVEL)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_backward(name: str) -> None:
    own = name.split(".")[0]
    forward = {
        part for part in parts_imported(MODULES[name]) if part != own and LEVEL[part] >= LEVEL[own]
    }
    assert forward == set()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in MODULES
        if name.split(".")[0] in PURE and not name.startswith("reward.adapters")
    ],
)
def test_the_task_the_reward_and_the_metrics_are_pure(name: str) -> None:
    packages = {imported_name.split(".")[0] for imported_name in imported(MODULES[name])}
    assert packages <= sys.stdlib_module_names | {"numpy", "star_r1"}
    assert parts_imported(MODULES[name]) <= PURE[name.split(".")[0]]
