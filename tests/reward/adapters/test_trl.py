"""The TRL adapter: called as TRL calls it, with the terms logged."""

import json
from collections import defaultdict
from typing import Any

import pytest

from star_r1.errors import UserError
from star_r1.reward.adapters.trl import REWARDS, make_star_reward, star_reward
from star_r1.reward.star import StarConfig
from star_r1.tvr.change import Change
from star_r1.tvr.vocabulary import TRANCE

RIGHT = "<think>.</think><answer>2.color.cyan, 0.shape.cube</answer>"
HALF = "<think>.</think><answer>2.color.cyan, 0.shape.sphere</answer>"
ANSWER = "2.color.cyan, 0.shape.cube"


def message(content: Any) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": content}]


class Log:
    """Stands where TRL's log_metric and log_extra do, and keeps what they would."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.columns: defaultdict[str, list[Any]] = defaultdict(list)

    def metric(self, name: str, value: float) -> None:
        self.metrics[name] = value

    def extra(self, column: str, values: list[Any]) -> None:
        self.columns[column].extend(values)


def call(reward: Any, completions: list[Any], answer: list[Any], **columns: Any) -> Any:
    """Every keyword that GRPOTrainer passes, the dataset's columns among them."""
    log = Log()
    rewards = reward(
        prompts=[[{"role": "user", "content": "?"}]] * len(completions),
        completions=completions,
        completion_ids=[[1]] * len(completions),
        answer=answer,
        view=["center"] * len(completions),
        trainer_state=object(),
        log_extra=log.extra,
        log_metric=log.metric,
        **columns,
    )
    return rewards, log


def test_star_rewards_and_curves() -> None:
    completions = [message(RIGHT), message(HALF), message("2.color.cyan")]
    rewards, log = call(star_reward, completions, [ANSWER] * 3)
    assert rewards == [11.0, 7.5, -2.0]
    assert log.metrics == pytest.approx(
        {
            "reward/format": 2 / 3,
            "reward/exact": 5.0,
            "reward/attribute": 0.5,
            "reward/object": 0.0,
            "reward/wrong": 0.0,
            "reward/missing": -2 / 3,
            "answer/predictions": 4 / 3,
            "answer/well_formed": 2 / 3,
            "answer/right": 1 / 3,
        }
    )
    assert log.columns["predicted"] == [ANSWER, "2.color.cyan, 0.shape.sphere", ""]
    assert log.columns["attribute"] == [0.0, 1.5, 0.0]
    assert {len(column) for column in log.columns.values()} == {3}


@pytest.mark.parametrize(
    "completion",
    [
        RIGHT,
        message(RIGHT),
        message([{"type": "text", "text": RIGHT}]),
        message([{"type": "text", "text": RIGHT[:20]}, {"type": "text", "text": RIGHT[20:]}]),
        [*message("first turn"), {"role": "tool", "content": "4"}, *message(RIGHT)],
    ],
)
def test_completions_of_every_kind(completion: Any) -> None:
    assert star_reward([completion], [ANSWER]) == [11.0]


@pytest.mark.parametrize("completion", ["", [], message(""), message(None), message([])])
def test_empty_completions(completion: Any) -> None:
    assert star_reward([completion], [ANSWER]) == [-2.0]


def test_a_config_can_be_bound() -> None:
    reward = make_star_reward(StarConfig(attribute=0, format=0))
    assert reward([HALF], [ANSWER]) == [5.5]
    assert reward.__name__ == "star_reward"


def test_every_named_reward_is_callable_as_trl_does() -> None:
    expected = {
        "star": 7.5,
        "sparse": 1.0,
        "count_penalty": 7.5,
        "reason_rft_graded": 1.75,
        "reason_rft_full": 1.5,
        "reason_rft_penalty": 1.375,
    }
    assert {name: call(f, [message(HALF)], [ANSWER])[0] for name, f in REWARDS.items()} == {
        name: [value] for name, value in expected.items()
    }
    # TRL names curves by __name__: two of one name would be added up.
    assert {f.__name__ for f in REWARDS.values()} == {f"{name}_reward" for name in expected}
    for function in REWARDS.values():
        assert call(function, [message(HALF)], [ANSWER])[1].metrics["answer/predictions"] == 2


@pytest.mark.parametrize("answer", ["2.color.pink", "2 color cyan", None, 5])
@pytest.mark.parametrize("name", REWARDS)
def test_a_malformed_answer_column_names_the_sample(name: str, answer: Any) -> None:
    with pytest.raises(UserError, match="sample 000007-left: the answer column holds") as caught:
        call(REWARDS[name], [RIGHT] * 2, [ANSWER, answer], id=["000003-left", "000007-left"])
    assert "\n" not in str(caught.value)


def test_without_ids_a_malformed_answer_names_its_row() -> None:
    with pytest.raises(UserError, match=r"row 1 of the batch: the answer column holds '2\.'"):
        star_reward([RIGHT, RIGHT], [ANSWER, "2."])


OUT = Change(3, "position", "left.2", ("left.2", "front-left.2"))


@pytest.mark.parametrize("name", ["star", "sparse"])
def test_moves_are_read_with_their_options(name: str) -> None:
    completion = "<think>.</think><answer>3.position.front-left.2</answer>"
    columns = {
        "vocabulary": [TRANCE.to_json()],
        "changes": [json.dumps([OUT.to_dict()])],
    }
    right = call(REWARDS[name], [completion], [str(OUT)], **columns)[0]
    assert right == {"star": [6.0], "sparse": [2.0]}[name]
    del columns["changes"]
    assert call(REWARDS[name], [completion], [str(OUT)], **columns)[0] < right


def test_a_move_is_no_prediction_where_nothing_moves() -> None:
    assert star_reward(["<answer>2.position.left.2</answer>"], ["2.color.cyan"]) == [-1.0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"vocabulary": ["{"]}, "row 0 of the batch: the vocabulary column"),
        ({"vocabulary": [TRANCE.to_json()], "changes": ["[5]"]}, "not a change"),
    ],
)
def test_malformed_columns_name_the_row(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        star_reward([""], ["2.color.cyan"], **columns)
