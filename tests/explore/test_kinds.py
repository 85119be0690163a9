import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.evaluate.predictions import STATUSES as ALL_STATUSES
from star_r1.explore.kinds import KINDS, OUTCOMES, STATUSES, find_kinds
from star_r1.reward.star import star
from star_r1.tvr.answer import parse_answer
from star_r1.tvr.change import parse_changes
from star_r1.tvr.vocabulary import TRANCE

TRUTH = "2.color.cyan, 0.shape.cube"


@pytest.mark.parametrize(
    ("answer", "outcome", "items", "kinds"),
    [
        (TRUTH, "right", [None, None], []),
        ("0.shape.cube, 2.color.cyan", "right", [None, None], []),
        ("2.color.cyan", "partly", [None], ["missed"]),
        ("2.color.red, 0.shape.cube", "partly", ["value", None], ["value"]),
        ("2.size.small", "wrong", ["attribute"], ["missed", "attribute"]),
        ("1.shape.cube, 2.color.cyan", "partly", ["object", None], ["object"]),
        ("1.shape.cube, 3.shape.cube", "wrong", ["object", "invented"],
         ["invented", "missed", "object"]),
        (f"{TRUTH}, 5.size.large", "partly", [None, None, "invented"], ["invented"]),
        (f"{TRUTH}, 2.color.cyan", "right", [None, None, "repeated"], ["repeated"]),
        (f"{TRUTH}, 2.color.pink", "partly", [None, None, "invalid"], ["invalid"]),
        ("none", "wrong", [], ["missed", "silent"]),
    ],
)  # fmt: skip
def test_mistakes_are_sorted(
    answer: str, outcome: str, items: list[str | None], kinds: list[str]
) -> None:
    truth = parse_changes(TRUTH)
    read = parse_answer(f"<think></think><answer>{answer}</answer>")
    verdict = find_kinds(read, star(read, truth), truth)
    assert verdict.outcome == outcome
    assert verdict.items == tuple(items)
    assert verdict.kinds == tuple(kinds)


def test_no_answer_block_is_a_broken_format_without_predictions() -> None:
    truth = parse_changes(TRUTH)
    read = parse_answer("2.color.cyan")
    assert find_kinds(read, star(read, truth), truth).kinds == ("missed", "format", "silent")


def test_a_move_among_the_options_is_exact() -> None:
    truth = parse_changes("3.position.left.2", TRANCE)
    read = parse_answer("<think></think><answer>3.position.left.1</answer>", TRANCE)
    assert find_kinds(read, star(read, truth), truth).items == ("value",)


@given(st.lists(st.sampled_from([f"{i}.{c}" for i in range(4) for c in (
    "color.cyan", "color.red", "shape.cube", "size.pink")]), max_size=6))  # fmt: skip
def test_what_is_not_right_has_a_kind_and_what_has_none_is_right(items: list[str]) -> None:
    truth = parse_changes(TRUTH)
    read = parse_answer(f"<think></think><answer>{', '.join(items)}</answer>")
    verdict = find_kinds(read, star(read, truth), truth)
    assert (verdict.outcome == "right") == (set(verdict.kinds) <= {"repeated"})


def test_every_status_has_a_name() -> None:
    assert set(STATUSES) == set(ALL_STATUSES) - {"answered"}
    names = [name for table in (OUTCOMES, KINDS, STATUSES) for name, _ in table.values()]
    assert len(set(names)) == len(names)
