import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.model import lessons
from star_r1.tvr import difference, parse_answer
from star_r1.tvr.scene import Object

SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.integers(1, 6), st.integers(1, 4))
def test_scenes_differ_as_asked(seed: int, visible: int, changes: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = lessons.random_scenes(rng, (visible, visible), (changes, changes))
    assert len(before.visible) == len(after.visible) == visible
    found = difference(before, after)
    assert len(found) == min(changes, 4 * visible)
    assert {c.index for c in found} <= {o.index for o in before.visible}


@given(SEEDS)
def test_answer_follows_from_the_lines_of_the_reasoning(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = lessons.random_scenes(rng, (2, 5), (1, 3))
    answer = parse_answer(lessons.compare_lists(before, after, rng).assistant)
    assert answer.well_formed
    lines = answer.reasoning.splitlines()
    compared = [int(line[0]) for line in lines]
    assert 1 <= len(set(compared)) == len(compared) <= len(before.visible)
    assert lines == [lessons.compare_line(before, after, i) for i in compared]
    wanted = sorted(c for c in difference(before, after) if c.index in compared)
    assert list(answer.changes) == wanted


def test_reasonings_stop_early_at_the_stated_rate_and_everywhere() -> None:
    rng = np.random.default_rng(0)
    before, after = lessons.random_scenes(rng, (4, 4), (1, 1))
    lengths = [lessons.compare(before, after, rng).count("\n") for _ in range(2000)]
    shares = np.bincount(lengths, minlength=5)[1:] / len(lengths)
    early = (1 - lessons.COMPARE_ALL) / 3
    assert shares == pytest.approx([early] * 3 + [lessons.COMPARE_ALL], abs=0.04)


def test_nothing_in_a_list_follows_the_index() -> None:
    rng = np.random.default_rng(0)
    before, after = lessons.random_scenes(rng, (4, 4), (1, 1))
    firsts = {lessons.compare_lists(before, after, rng).user.splitlines()[1] for _ in range(60)}
    assert firsts == {o.describe() for o in after.visible}


@given(SEEDS)
def test_find_is_answered_by_an_object_that_fits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    _, scene = lessons.random_scenes(rng, (1, 6), (1, 2))
    asked = lessons.find(scene.visible, rng)
    words = asked.user.removeprefix("Find:").split()
    assert 1 <= words.count("?") <= 2
    assert asked.assistant.removesuffix("\n") in {o.describe() for o in scene.visible}
    for word, answer in zip(words, asked.assistant.split(), strict=True):
        assert word in ("?", answer)


def test_find_is_unambiguous_where_it_can_be() -> None:
    rng = np.random.default_rng(0)
    pair = (
        Object(0, "red", "cube", "small", "metal", (0, 0)),
        Object(1, "red", "cube", "large", "metal", (9, 0)),
    )
    asked = [lessons.find(pair, rng).user for _ in range(200)]
    # Only the size tells them apart: to withhold it is a last resort.
    assert sum(user.startswith("Find: ?") for user in asked) < 40


def test_find_by_index_reads_the_table() -> None:
    rng = np.random.default_rng(0)
    scene, _ = lessons.random_scenes(rng, (3, 3), (1, 1))
    lesson = lessons.find_by_index(scene, rng)
    index = lesson.user[-2]
    assert f"{index}: {lesson.assistant.strip()}" in lesson.user


def test_describe_names_every_object_in_any_order() -> None:
    rng = np.random.default_rng(0)
    scene, _ = lessons.random_scenes(rng, (3, 3), (1, 1))
    said = {lessons.describe(scene.visible, rng).assistant for _ in range(60)}
    wanted = sorted(o.describe() for o in scene.visible)
    assert len(said) == 6
    assert all(sorted(text.splitlines()) == wanted for text in said)
