"""What several packages' tests need: a random mini model, and data whose pictures are noise."""

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

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
    from datasets import Dataset
    from PIL import Image

    from star_r1.data.dataset import FEATURES
    from star_r1.tvr import format_changes
    from star_r1.tvr.prompt import build_prompt
    from star_r1.tvr.sampler import SceneRules, draw_sample

    noise = np.random.default_rng(0)
    rules = SceneRules(visible=(2, 5), changes=(1, 2))

    def picture() -> dict[str, object]:
        buffer = io.BytesIO()
        pixels = noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = []
    for index in range(SAMPLES):
        drawn = draw_sample(
            0, index, lambda scene, *_: {o.index: 999 for o in scene.visible}, rules
        )
        for sample in (drawn, drawn.seen_from("left")):
            rows.append(
                {
                    "id": sample.id,
                    "images": [picture(), picture()],
                    "prompt": build_prompt(sample),
                    "answer": format_changes(sample.changes),
                    "view": sample.view,
                    "initial": sample.initial.to_json(),
                    "final": sample.final.to_json(),
                    "changes": json.dumps([dataclasses.asdict(c) for c in sample.changes]),
                    "rig": sample.rig.to_json(),
                    "pixels": "{}",
                }
            )
    folder = tmp_path_factory.mktemp("data")
    (folder / "data").mkdir()
    shard = folder / "data" / "train-00000-of-00001.parquet"
    Dataset.from_list(rows, features=FEATURES).to_parquet(str(shard))
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
