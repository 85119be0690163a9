import json
from pathlib import Path

import numpy as np
import pytest
import torch

from star_r1.errors import UserError
from star_r1.model import pretrain
from star_r1.model.loading import load_model, load_processor
from star_r1.model.mini import build_model, build_processor
from star_r1.model.pictures import read_pictures

TINY = ["--samples", "16", "--align-steps", "2", "--list-steps", "6", "--picture-steps", "4"]
TINY += ["--batch", "4", "--workers", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mini")
    pretrain.main(["--out", str(out), *TINY])
    return out


def test_it_ends_with_a_model_that_loads_and_a_card(made: Path) -> None:
    load_processor(str(made))
    assert sum(p.numel() for p in load_model(str(made)).parameters()) > 1e6
    record = json.loads((made / "pretrain.json").read_text())
    assert set(record["measured"]["perception"]) == {"center", "left", "right"}
    card = (made / "README.md").read_text()
    assert "star-r1 pretrain --seed 1000 --samples 16" in card
    assert f"| center | {record['measured']['perception']['center']['n']} |" in card


@pytest.mark.slow
def test_a_stage_made_again_gives_the_same_weights(made: Path) -> None:
    weights = (made / "model.safetensors").read_bytes()
    stages = made / "pretraining"
    for names in (("pictures",), ("align", "lists", "pictures")):
        for name in names:
            (stages / f"{name}.safetensors").unlink()
        pretrain.main(["--out", str(made), *TINY])
        assert (made / "model.safetensors").read_bytes() == weights, names


@pytest.mark.parametrize("flags", ["--list-steps 9", "--seed 3"])
def test_stages_of_other_settings_are_not_gone_on_from(made: Path, flags: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    name = flags.split()[0].removeprefix("--").replace("-", "_")
    with pytest.raises(UserError, match=f"holds a pretraining with {name} "):
        pretrain.main(["--out", str(made), *TINY, *flags.split()])
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_no_lesson_holds_an_answer_to_a_pair_of_different_views(made: Path) -> None:
    pictures = read_pictures(made / "pretraining" / "pictures", pretrain.GRID)
    assert len(pictures.pairs) == 16
    for initial, final, _, _ in pictures.pairs:
        assert pictures.views[initial] == pictures.views[final] == "center"
    # Lessons about single pictures answer no question about changes.
    features = torch.zeros(len(pictures.images), 48, 128)
    rng = np.random.default_rng(0)
    for kind in ("describe", "find"):
        for example in pretrain.picture_examples(kind, rng, 20, pictures, features):
            assert len(example.features) == 1
            assert "answer" not in example.lesson.assistant


def test_held_out_pictures_are_not_learned_from(made: Path) -> None:
    pictures = read_pictures(made / "pretraining" / "pictures", pretrain.GRID, held_out=0.5)
    marks = torch.arange(len(pictures.images)).float()[:, None, None].expand(-1, 1, 1)
    rng = np.random.default_rng(0)
    for kind in ("describe", "find", "pair"):
        for example in pretrain.picture_examples(kind, rng, 50, pictures, marks):
            assert all(mark.item() < pictures.held_out for mark in example.features)


def test_tiny_numbers_survive_pretraining(made: Path) -> None:
    """The processor's flush-to-zero is switched off again: 5e-324 is still not zero."""
    assert float(np.float64(5e-324) * 1.0) > 0


def test_words_are_orthonormal() -> None:
    model, processor = build_model(0), build_processor()
    pretrain.orthogonal_words(model, processor, 0)
    words = pretrain.word_embeddings(model, processor)
    assert torch.allclose(words @ words.T, torch.eye(17), atol=1e-5)


@pytest.mark.parametrize("argv", [[], ["--out", "x", "--bogus"], ["--out", "x", "--seed", "a"]])
def test_wrong_flags_are_one_line(argv: list[str]) -> None:
    with pytest.raises(UserError) as error:
        pretrain.main(argv)
    assert "\n" not in str(error.value)
