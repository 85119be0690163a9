"""A random mini model, and a folder of data whose pictures are noise: training's parts at work."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from star_r1.data.dataset import FEATURES
from star_r1.model.mini import build_model, build_processor
from star_r1.tvr import format_changes
from star_r1.tvr.prompt import build_prompt
from star_r1.tvr.sampler import SceneRules, draw_sample

SAMPLES = 12


def make_rows(samples: int = SAMPLES) -> list[dict[str, Any]]:
    """Rows of every view, as 'star-r1 generate' writes them, with pictures of 2 x 2 visual tokens."""
    noise = np.random.default_rng(0)

    def picture() -> dict[str, Any]:
        buffer = io.BytesIO()
        pixels = noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = []
    for index in range(samples):
        drawn = draw_sample(
            0,
            index,
            lambda scene, rig, view: {o.index: 999 for o in scene.visible},
            SceneRules(visible=(2, 5), changes=(1, 2)),
        )
        for view in ("center", "left"):
            sample = drawn.seen_from(view)
            rows.append(
                {
                    "id": sample.id,
                    "images": [picture(), picture()],
                    "prompt": build_prompt(sample),
                    "answer": format_changes(sample.changes),
                    "view": view,
                    "initial": sample.initial.to_json(),
                    "final": sample.final.to_json(),
                    "changes": json.dumps([dataclasses.asdict(c) for c in sample.changes]),
                    "rig": sample.rig.to_json(),
                    "pixels": "{}",
                }
            )
    return rows


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "data").mkdir()
    rows = Dataset.from_list(make_rows(), features=FEATURES)
    rows.to_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a still smaller mini model, and the processor."""
    folder = tmp_path_factory.mktemp("model")
    build_model(seed=0, hidden_size=64, layers=2, vision_hidden_size=32, vision_depth=1).save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder
