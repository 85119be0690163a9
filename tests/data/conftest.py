"""One small rendered dataset that the tests of the data layer share and never write to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from star_r1.data import build, settings

SAMPLES = 5
SEED = 3
SETTINGS = {"samples": SAMPLES, "seed": SEED, "size": (56, 42), "samples_per_pixel": 2}


@pytest.fixture(scope="session", autouse=True)
def _small_shards() -> Iterator[None]:
    """A few samples make several shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "SHARD_SAMPLES", 2)
        yield


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory, _small_shards: None) -> Path:
    """``SETTINGS``, all views, by one worker."""
    out = tmp_path_factory.mktemp("rendered") / "set"
    assert build.generate(out, **SETTINGS) == SAMPLES
    return out


@pytest.fixture
def copy(rendered: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    import shutil

    return Path(shutil.copytree(rendered, tmp_path / "copy"))
