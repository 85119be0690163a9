"""Blender in its child process: the same scenes, and a child that is not there or of no use."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from star_r1.errors import UserError
from star_r1.render import cycles
from star_r1.render.cycles import INTERPRETER_VARIABLE, CyclesRenderer, find_interpreter
from star_r1.render.visibility import count_pixels, instance_mask
from star_r1.tvr.sample import Sample
from star_r1.tvr.sampler import draw_sample
from star_r1.tvr.vocabulary import VIEWS

SIZE = (160, 120)


def blender() -> bool:
    try:
        find_interpreter()
    except UserError:
        return False
    return True


@pytest.fixture(scope="module")
def crowded() -> Sample:
    index = next(i for i in range(20) if len(draw(i).initial.visible) > 7)
    return draw(index)


def draw(index: int) -> Sample:
    return draw_sample(3, index, count_pixels)


@pytest.fixture(scope="module")
def renderer() -> Iterator[CyclesRenderer]:
    if not blender():
        pytest.skip("Blender is not here")
    with CyclesRenderer(SIZE, 16) as opened:
        yield opened


@pytest.mark.cycles
@pytest.mark.parametrize("view", VIEWS)
def test_masks_agree(renderer: CyclesRenderer, crowded: Sample, view: str) -> None:
    ours = instance_mask(crowded.final, crowded.rig, view, SIZE)
    agree = renderer.mask(crowded.final, crowded.rig, view) == ours
    assert agree.mean() > 0.995  # Blender's meshes have round edges in their outlines too
    assert (ours < 10).sum() > 500


@pytest.mark.cycles
@pytest.mark.parametrize("view", VIEWS)
def test_both_renderers_draw_the_same(renderer: CyclesRenderer, crowded: Sample, view: str) -> None:
    from star_r1.render.mitsuba import MitsubaRenderer

    theirs = renderer.render(crowded.final, crowded.rig, view).astype(float)
    ours = MitsubaRenderer(SIZE, 16).render(crowded.final, crowded.rig, view).astype(float)
    assert abs(theirs - ours).mean() < 8
    mask = instance_mask(crowded.final, crowded.rig, view, SIZE)
    for thing in crowded.final.visible:
        shown = mask == thing.index
        if shown.sum() > 100:
            assert abs(theirs[shown].mean(0) - ours[shown].mean(0)).max() < 25


@pytest.mark.cycles
def test_the_same_scene_gives_nearly_the_same_picture(
    renderer: CyclesRenderer, crowded: Sample
) -> None:
    once = renderer.render(crowded.initial, crowded.rig, "center").astype(int)
    renderer.render(crowded.final, crowded.rig, "left")
    again = renderer.render(crowded.initial, crowded.rig, "center").astype(int)
    assert abs(once - again).max() <= 2
    assert (once != again).mean() < 0.01


def test_without_blender_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INTERPRETER_VARIABLE, raising=False)
    monkeypatch.setattr(cycles.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'star-r1\[cycles\]'.*STAR_R1_BLENDER_PYTHON"):
        CyclesRenderer(SIZE, 4)


def test_an_interpreter_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERPRETER_VARIABLE, "/nowhere/python")
    with pytest.raises(UserError, match="'/nowhere/python', which is no program"):
        CyclesRenderer(SIZE, 4)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise SystemExit(3)", "it ended with status 3"),
        ("import nonesuch", "No module named 'nonesuch'"),
        ("print('Blender 4.5', flush=True)", "it said b'Blender 4.5"),
        ('print(\'{"error": "no lamps"}\', flush=True)', "no lamps"),
        ("print('{\"bytes\": 99}', flush=True)", "in a picture"),
    ],
)
def test_a_child_of_no_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, message: str
) -> None:
    child = tmp_path / "child.py"
    child.write_text(script)
    monkeypatch.setattr(cycles, "_SCRIPT", child)
    monkeypatch.setenv(INTERPRETER_VARIABLE, sys.executable)
    with pytest.raises(UserError, match="Blender failed: ") as caught:
        CyclesRenderer(SIZE, 4)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "samples"), [((8, 120), 8), ((160, 120), 0)])
def test_impossible_settings_are_refused(size: tuple[int, int], samples: int) -> None:
    with pytest.raises(UserError, match="at least 16 pixels a side and 1 sample"):
        CyclesRenderer(size, samples)
