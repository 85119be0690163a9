from pathlib import Path
from typing import Any

import pytest

from star_r1.analyze.summary import (
    BINS,
    FIELDS,
    SHARES,
    errors,
    read_completion,
    read_row,
    summarize,
    values,
)
from star_r1.evaluate.finished import Answers
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.run import evaluate
from star_r1.evaluate.runs import Evaluation, read_evaluation
from star_r1.metrics import POPULATIONS
from star_r1.tvr import TRANCE, Object, Sample, Scene, parse_answer, parse_changes
from star_r1.tvr.vocabulary import ATTRIBUTES

THINGS = {1: "red", 4: "blue", 6: "gray"}
ROWS = 24


def make_sample(truth: str, view: str = "left", vocabulary: Any = None) -> Sample:
    """Three visible objects: 1, 4 and 6."""
    objects = tuple(
        Object(
            index,
            THINGS.get(index, "green"),
            "cube",
            "small",
            "rubber",
            (0, 6 * index - 18) if index in THINGS else (40, 8 * index - 36),
        )
        for index in range(10)
    )
    scene = Scene(objects, vocabulary) if vocabulary else Scene(objects)
    changes = parse_changes(truth, vocabulary) if vocabulary else parse_changes(truth)
    return Sample(f"000000-{view}", scene, changes, view)


def line(index: int, now: str = "", word: str = "same") -> str:
    old = f"small {THINGS[index]} rubber cube"
    return f"{index}: {old} now {now or old} {word}\n"


def said(reasoning: str, answer: str) -> str:
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


def look(text: str, sample: Sample) -> dict[str, float | None]:
    return values(read_completion(Completion(sample.id, text, completion_tokens=7), sample))


def test_what_a_completion_adds() -> None:
    sample = make_sample("4.color.cyan, 6.shape.sphere")
    reasoning = line(4, "small cyan rubber cube", "color") + line(1)
    found = look(said(reasoning, "4.color.cyan, 1.size.large"), sample)
    assert tuple(found) == FIELDS
    assert {name: value for name, value in found.items() if value is not None} == {
        "tacc": False,
        "mentioned": 2,
        "compared": 2,
        "coverage": pytest.approx(2 / 3),
        "complete": False,
        "correspondence": True,
        "corresponding": pytest.approx(2 / 3),
        "follows": False,
        "in_order": 0,
        "words": 22,
        "tokens": 7,
        **{f"{kind}_{a}": 0 for kind in ("invented", "missed") for a in ATTRIBUTES},
        "invented_all": 1,
        "missed_all": 1,
        "invented_size": 1,
        "missed_shape": 1,
    }


def test_without_a_reasoning_there_is_none_to_measure() -> None:
    found = look(said("", "4.color.cyan"), make_sample("4.color.cyan"))
    assert (found["tacc"], found["coverage"], found["words"], found["follows"]) == (
        1,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("answer", "truth", "invented", "missed"),
    [
        ("none", "4.color.cyan", {}, {"color": 1}),
        ("4.color.cyan", "4.color.cyan", {}, {}),
        ("4.color.cyan, 4.color.cyan", "4.color.cyan", {}, {}),
        ("4.color.red, 4.color.cyan", "4.color.cyan", {"color": 1}, {}),
        ("1.size.large", "4.color.cyan, 6.size.large", {"size": 1}, {"color": 1, "size": 1}),
        ("1.size.huge, word", "4.color.cyan", {}, {"color": 1}),
    ],
)
def test_errors(answer: str, truth: str, invented: dict[str, int], missed: dict[str, int]) -> None:
    found = errors(parse_answer(f"<answer>{answer}</answer>"), make_sample(truth))
    assert tuple(map(dict, found)) == (invented, missed)


def test_any_option_of_a_move_out_of_sight_is_no_error() -> None:
    (move,) = parse_changes("4.position.left.2", TRANCE)
    sample = make_sample("4.position.left.2", vocabulary=TRANCE)
    free = type(move)(move.index, move.attribute, move.value, ("left.2", "front-left.2"))
    sample = Sample(sample.id, sample.initial, (free,), sample.view)
    for way, wrong in (("left.2", 0), ("front-left.2", 0), ("right.1", 1)):
        answer = parse_answer(f"<answer>4.position.{way}</answer>", TRANCE)
        assert [one.total() for one in errors(answer, sample)] == [wrong, wrong]


def test_groups_and_the_papers_line() -> None:
    full = said("".join(map(line, THINGS)), "none")
    rows = [
        [read_completion(Completion("a", full), make_sample("4.color.cyan", view))]
        for view in ("center", "left", "left", "right")
    ]
    rows[1] = [read_completion(Completion("a", said("4 same", "none")), rows[1][0].sample)]
    found = summarize(rows)
    groups = found["groups"]
    assert found["n"] == 4
    assert groups["overall"]["coverage"]["value"] == pytest.approx((3 + 1 / 3) / 4)
    assert groups["id"]["coverage"]["value"] == 1
    assert groups["ood"]["complete"]["value"] == pytest.approx(2 / 3)
    assert groups["objects_1_3"]["words"]["n"] == 4
    assert groups["objects_9_10"]["words"] == {"value": None, "ci95": None, "n": 0, "scenes": 0}
    assert set(POPULATIONS) < set(groups)
    lines = found["correspondences"]
    assert (lines["id"]["value"], lines["id"]["paper"]) == (1, 0.67)
    assert (lines["ood"]["value"], lines["ood"]["paper"]) == (pytest.approx(2 / 3), 0.81)


def test_several_completions_of_a_row_count_as_their_mean() -> None:
    sample = make_sample("4.color.cyan")
    texts = [said(line(4), "none"), said(line(4) + line(1) + line(6), "4.color.cyan")]
    row = [read_completion(Completion("a", text, n), sample) for n, text in enumerate(texts)]
    found = summarize([row])
    assert found["n"] == 2
    assert found["groups"]["overall"]["coverage"] == {
        "value": pytest.approx(2 / 3),
        "ci95": [pytest.approx(0.0029, abs=1e-4), pytest.approx(1, abs=1e-4)],  # one scene
        "n": 1,
        "scenes": 1,
    }
    assert found["groups"]["overall"]["tacc"]["value"] == 0.5


def test_length_against_accuracy() -> None:
    sample = make_sample("4.color.cyan")
    rows = []
    for length in range(1, 41):
        answer = "4.color.cyan" if length <= 20 else "none"
        text = said(" ".join(["word"] * length), answer)
        rows.append([read_completion(Completion("a", text), sample)])
    found = summarize(rows)
    assert len(found["by_length"]) == BINS
    assert sum(part["tacc"]["n"] for part in found["by_length"]) == len(rows)
    assert [round(part["tacc"]["value"], 1) for part in found["by_length"]] == [1, 1, 0.1, 0]
    assert found["length_and_right"] == pytest.approx(-0.866, abs=0.01)
    assert summarize(rows[:20])["length_and_right"] is None  # all are right
    assert [part["to"] for part in summarize(rows[:1])["by_length"]] == [1]
    assert summarize([])["by_length"] == []


@pytest.fixture(scope="module")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    out = tmp_path_factory.mktemp("analyzed") / "run"
    evaluate("baseline:oracle", data_folder, out)
    return read_evaluation(out)


def test_the_oracle_compares_everything_and_follows_itself(run: Evaluation) -> None:
    answers = Answers([run], Path(run.about["data"]))
    rows = [read_row(said, row.sample) for row in answers.rows() for said in row.said if said]
    found = summarize(rows)["groups"]["overall"]
    assert len(rows) == ROWS
    for field in ("tacc", "coverage", "complete", "follows", "correspondence", "in_order"):
        assert found[field]["value"] == 1, field
    assert found["invented_all"]["value"] == found["missed_all"]["value"] == 0
    assert all(0 <= found[field]["value"] <= 1 for field in SHARES)
