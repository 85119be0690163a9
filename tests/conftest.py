"""What several packages' tests need: a random mini model, and data whose pictures are noise."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from star_r1.tvr.change import Change
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import STANDARD_RIG, Object, Rig, Scene
from star_r1.tvr.vocabulary import TRANCE, camera_position

# A background job of a shell, as a CI's may be, is started deaf to Ctrl-C, and hands that on to the
# processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_ctrl_c() -> Iterator[None]:
    """A command line run in this process leaves its handler behind."""
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Tests run beside other work: how long an example takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SAMPLES = 12
"""In ``data_folder``, each with a row for the center and one for the left view."""


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No copies of test data are left in the user's cache."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows as 'star-r1 generate' writes them, with pictures of 2 x 2 visual tokens."""
    from star_r1.tvr.sampler import SceneRules, draw_sample

    rules = SceneRules(visible=(2, 5), changes=(1, 2))
    samples: list[Sample] = []
    for index in range(SAMPLES):
        drawn = draw_sample(
            0, index, lambda scene, *_: {o.index: 999 for o in scene.visible}, rules
        )
        samples += [drawn, drawn.seen_from("left")]
    return _write_data(tmp_path_factory.mktemp("data"), samples)


@pytest.fixture(scope="session")
def moves_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four samples of TRANCE's full setting, each from the center and from the top."""
    rig = Rig({**STANDARD_RIG.cameras, "top": camera_position("top")}, STANDARD_RIG.lamps)
    places = [(0, -8), (0, 8), *((-40, 8 * i - 36) for i in range(8))]
    things = (Object(i, "red", "cube", "small", "metal", place) for i, place in enumerate(places))
    scene = Scene(tuple(things), TRANCE)
    truths: list[tuple[Change, ...]] = [
        (Change(0, "position", "front.1"),),
        (Change(1, "color", "blue"), Change(1, "position", "behind-right.1")),
        (Change(0, "position", "left.2", ("left.2", "front-left.2", "behind-left.2")),),
        (Change(1, "position", "behind.1"), Change(0, "position", "right.2")),
    ]
    samples: list[Sample] = []
    for index, truth in enumerate(truths):
        sample = Sample(f"{index:06d}-center", scene, truth, "center", rig)
        samples += [sample, sample.seen_from("top")]
    return _write_data(tmp_path_factory.mktemp("moves"), samples)


def _write_data(folder: Path, samples: Sequence[Sample]) -> Path:
    """A dataset of one shard, with noise for pictures."""
    from star_r1.data.shards import encode_png, make_row, to_parquet

    noise = np.random.default_rng(0)

    def picture() -> bytes:
        return encode_png(noise.integers(0, 256, (40, 40, 3), dtype=np.uint8))

    rows, initial = [], {}
    for sample in samples:
        before, after = picture(), picture()
        # The views of a sample have their initial picture in common.
        before = initial.setdefault(sample.id.rpartition("-")[0], before)
        rows.append(make_row(sample, (before, after), {}))
    (folder / "data").mkdir()
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(to_parquet(rows))
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a still smaller mini model, and the processor."""
    from star_r1.model.mini import build_model, build_processor

    folder = tmp_path_factory.mktemp("model")
    sizes = {"hidden_size": 64, "layers": 2, "vision_hidden_size": 32, "vision_depth": 1}
    build_model(seed=0, **sizes).save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


@pytest.fixture
def in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[object, str, str]]:
    """The command line in this process: its words give exit status, output and errors."""
    from star_r1.cli import main

    def run(words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["star-r1", *words.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def real_samples() -> list[tuple[Sample, Scene]]:
    """The real samples of TRANCE beside the repository, each with its final scene as published."""
    path = Path(__file__).parents[2] / "shared" / "trance_sample" / "data.json"
    if not path.exists():
        pytest.skip("the real samples of TRANCE are not here")
    return [_read_real(row) for row in json.loads(path.read_bytes())]


def _read_real(row: dict[str, Any]) -> tuple[Sample, Scene]:
    def read_scene(state: dict[str, Any]) -> Scene:
        things = (
            Object(index, **{**thing, "position": tuple(thing["position"])})
            for index, thing in enumerate(state["objects"])
        )
        return Scene(tuple(things), TRANCE)

    def read_value(value: Any) -> str:
        return value if isinstance(value, str) else "{}.{}".format(*value)

    changes = []
    for step in row["transformations"]:
        options = tuple(map(read_value, step["options"])) if step.get("type") == "out" else ()
        changes.append(Change(step["obj_idx"], step["attr"], read_value(step["val"]), options))
    initial, final = map(read_scene, row["states"])
    return Sample(f"{row['idx']:06d}-center", initial, tuple(changes)), final
