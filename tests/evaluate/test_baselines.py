"""Floors and ceilings: well-formed, seeded, and worth what they should be worth."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.errors import UserError
from star_r1.evaluate.baselines import BASELINES, possible_changes
from star_r1.metrics import judge, score
from star_r1.render.visibility import BACKGROUND, instance_mask
from star_r1.tvr.answer import Answer, parse_answer
from star_r1.tvr.change import Change, parse_changes, replay
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import STANDARD_RIG, UNKNOWN_RIG, Object, Scene
from star_r1.tvr.vocabulary import STANDARD, Vocabulary

BLANK = [Image.new("RGB", (40, 40))] * 2


def samples_of(folder: Path) -> list[Sample]:
    return [row_to_sample(row) for row in read_columns(folder, SAMPLE_COLUMNS)]


def ask(name: str, sample: Sample, images: Sequence[Any] = BLANK, seed: int = 0) -> Answer:
    rng = np.random.default_rng([seed, zlib.crc32(sample.id.encode())])
    return parse_answer(BASELINES[name](sample, images, rng), sample.vocabulary)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("folder", ["data_folder", "moves_folder"])
def test_every_completion_is_well_formed_and_valid(
    name: str, folder: str, request: pytest.FixtureRequest
) -> None:
    for sample in samples_of(request.getfixturevalue(folder)):
        answer = ask(name, sample)
        assert answer.well_formed
        assert None not in [prediction.change for prediction in answer.predictions]


@pytest.mark.parametrize("folder", ["data_folder", "moves_folder"])
def test_floor_and_ceiling(folder: str, request: pytest.FixtureRequest) -> None:
    samples = samples_of(request.getfixturevalue(folder))
    worth = {
        name: score([(ask(name, sample), sample) for sample in samples])["overall"]
        for name in ("silent", "enumerate", "oracle")
    }
    assert worth["oracle"]["tacc"]["value"] == 1
    assert worth["oracle"]["diff"]["value"] == 0
    assert worth["silent"]["tacc"]["value"] == worth["enumerate"]["tacc"]["value"] == 0
    assert worth["silent"]["ndiff"]["value"] == 1 or folder == "moves_folder"
    assert not ask("silent", samples[0]).predictions


def test_what_is_possible(data_folder: Path) -> None:
    for sample in samples_of(data_folder):
        changes = possible_changes(sample)
        assert len(changes) == 13 * len(sample.initial.visible)
        assert set(sample.changes) <= set(changes)
        assert ask("enumerate", sample).changes == tuple(changes)
        for change in changes:
            thing = sample.initial.objects[change.index]
            assert thing.visible
            assert thing.attribute(change.attribute) != change.value


def test_moves_stay_on_the_table_and_are_seen(moves_folder: Path) -> None:
    sample = samples_of(moves_folder)[0]
    moves = [c for c in possible_changes(sample) if c.attribute == "position"]
    assert {c.index for c in moves if not sample.initial.objects[c.index].visible}  # into sight
    for move in moves:
        before = sample.initial.objects[move.index]
        after = replay(sample.initial, [move]).objects[move.index]  # raises off the table
        assert before.visible or after.visible


def test_random_answers_follow_the_prior_and_the_seed(data_folder: Path) -> None:
    samples = samples_of(data_folder)
    answers = [ask("random", s, seed=seed).changes for s in samples for seed in range(40)]
    numbers = Counter(map(len, answers))
    assert set(numbers) == {1, 2, 3, 4}
    assert max(numbers.values()) < 1.4 * min(numbers.values())
    for changes, sample in zip(answers, [s for s in samples for _ in range(40)], strict=True):
        assert len({(c.index, c.attribute) for c in changes}) == len(changes)
        assert set(changes) <= set(possible_changes(sample))
    assert ask("random", samples[0]) == ask("random", samples[0])
    assert len({ask("random", s, seed=seed).changes for s in samples[:1] for seed in range(9)}) > 4


def test_random_answers_are_no_more_than_a_scene_allows() -> None:
    vocabulary = Vocabulary(attributes=("size",))
    sample = Sample("0-center", scene_of(ball(3, "red", (0, 0)), vocabulary=vocabulary), ())
    assert {len(ask("random", sample, seed=seed).changes) for seed in range(20)} == {1}


def test_the_oracle_reasons() -> None:
    sample = Sample("0-center", scene_of(ball(3, "red", (0, 0))), parse_changes("3.color.blue"))
    assert ask("oracle", sample).reasoning.strip() == (
        "3: large red rubber sphere -> large blue rubber sphere: color changed"
    )


# The classical one, on flat pictures: each object has the color that its material has on average.


def scene_of(*things: Object, vocabulary: Vocabulary = STANDARD) -> Scene:
    given = {thing.index: thing for thing in things}
    hidden = (Object(i, "red", "cube", "small", "rubber", (-40, 8 * i - 36)) for i in range(10))
    return Scene(tuple(given.get(o.index, o) for o in hidden), vocabulary)


def ball(index: int, color: str, at: tuple[int, int]) -> Object:
    return Object(index, color, "sphere", "large", "rubber", at)


SCENE = scene_of(
    ball(2, "red", (0, -12)),
    ball(4, "blue", (10, 8)),
    Object(5, "yellow", "cube", "medium", "rubber", (-12, 8), 0.3),
    Object(9, "green", "cylinder", "medium", "rubber", (-14, -14)),
)


def paint(scene: Scene, view: str, size: tuple[int, int] = (160, 120)) -> Image.Image:
    mask = instance_mask(scene, STANDARD_RIG, view, size)
    light = np.full((*mask.shape, 3), 0.3)
    for thing in scene.visible:
        light[mask == thing.index] = 0.355 * np.array(scene.vocabulary.colors[thing.color]) / 255
    assert (mask != BACKGROUND).any()
    srgb = 1.055 * light ** (1 / 2.4) - 0.055
    return Image.fromarray((srgb * 255 + 0.5).clip(0, 255).astype(np.uint8))


def look(sample: Sample, size: tuple[int, int] = (160, 120)) -> Answer:
    images = paint(sample.initial, "center", size), paint(sample.final, sample.view, size)
    return ask("pixels", sample, images)


@pytest.mark.parametrize("view", ["center", "left", "right"])
@pytest.mark.parametrize(
    "truth",
    [
        "2.color.cyan",
        "4.size.small, 2.color.purple",
        "5.shape.cylinder, 9.color.brown, 2.size.medium",
        "9.shape.cube",
        "4.color.red, 2.color.blue",  # as if they had changed places
    ],
)
def test_pixels_tell_colors_and_shapes(truth: str, view: str) -> None:
    sample = Sample(f"0-{view}", SCENE, parse_changes(truth), view)
    assert judge(look(sample), sample).correct


@pytest.mark.parametrize("size", [(320, 240), (100, 100)])
def test_pixels_work_at_other_sizes(size: tuple[int, int]) -> None:
    sample = Sample("0-left", SCENE, parse_changes("2.color.cyan"), "left")
    assert judge(look(sample, size), sample).correct


def test_pixels_do_not_see_who_is_who() -> None:
    # The same picture and the same table, but the objects that made the segments have other names.
    truth = parse_changes("2.color.blue, 4.color.red")
    sample = Sample("0-center", SCENE, truth)
    swapped = {2: SCENE.objects[4], 4: SCENE.objects[2]}
    final = scene_of(
        *(replace(swapped.get(o.index, o), index=o.index) for o in SCENE.visible),
    )
    images = paint(SCENE, "center"), paint(sample.final, "center")
    other = _Said("0-center", SCENE, truth, final)
    assert ask("pixels", other, images) == ask("pixels", sample, images)


class _Said(Sample):
    """A sample with a final scene of its own."""

    def __init__(self, id: str, initial: Scene, changes: tuple[Change, ...], final: Scene) -> None:
        super().__init__(id, initial, changes)
        object.__setattr__(self, "made", final)

    @property
    def final(self) -> Scene:
        scene: Scene = self.made
        return scene


def test_pixels_do_not_depend_on_the_order_of_segments() -> None:
    sample = Sample("0-left", SCENE, parse_changes("2.color.cyan, 5.size.small"), "left")
    images = paint(sample.initial, "center"), paint(sample.final, "left")
    assert len({ask("pixels", sample, images, seed=seed) for seed in range(4)}) == 1


def test_pixels_leave_out_what_is_hidden() -> None:
    # The small ball stands behind the large one: nothing is said of it, and nothing breaks.
    hidden = Object(1, "red", "sphere", "small", "rubber", (-12, 0))
    scene = scene_of(hidden, ball(2, "blue", (0, 0)))
    assert set(np.unique(instance_mask(scene, STANDARD_RIG, "center", (160, 120)))) == {2, 255}
    sample = Sample("0-center", scene, parse_changes("2.color.red"))
    assert judge(look(sample), sample).correct


def test_pixels_need_to_know_where_things_stand() -> None:
    sample = Sample("7-center", SCENE, (), rig=replace(UNKNOWN_RIG))
    with pytest.raises(UserError, match=r"^7-center: no segments .*; choose another baseline$"):
        ask("pixels", sample)
