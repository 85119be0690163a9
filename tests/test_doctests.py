"""The examples in the docstrings are run."""

import doctest
import importlib
import pkgutil

import pytest

import star_r1.reward
import star_r1.tvr

OTHERS = [
    "star_r1.data.card",
    "star_r1.files",
    "star_r1.metrics",
    "star_r1.progress",
    "star_r1.render.cameras",
    "star_r1.render.mitsuba",
    "star_r1.train.grpo",
    "star_r1.train.run",
]
"""Outside the pure packages, the modules that have examples."""
WITH_EXAMPLES = [
    *OTHERS,
    "star_r1.reward.adapters.trl",
    "star_r1.reward.rivals",
    "star_r1.reward.star",
    "star_r1.tvr.answer",
    "star_r1.tvr.change",
    "star_r1.tvr.prompt",
    "star_r1.tvr.sampler",
    "star_r1.tvr.scene",
]
MODULES = sorted(
    {
        *OTHERS,
        *(m.name for m in pkgutil.walk_packages(star_r1.tvr.__path__, "star_r1.tvr.")),
        *(m.name for m in pkgutil.walk_packages(star_r1.reward.__path__, "star_r1.reward.")),
    }
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    assert (result.attempted > 0) == (name in WITH_EXAMPLES)
