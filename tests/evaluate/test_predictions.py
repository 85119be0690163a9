import json
from pathlib import Path

import pytest
from tests.patience import patience

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.errors import UserError
from star_r1.evaluate.predictions import (
    BrokenLines,
    Completion,
    read_completions,
    read_predictions,
)
from star_r1.evaluate.scoring import MetricSet, score_file
from star_r1.tvr import format_changes


@pytest.fixture
def perfect(data_folder: Path) -> list[dict[str, str]]:
    rows = read_columns(data_folder, SAMPLE_COLUMNS)
    return [
        {
            "id": sample.id,
            "completion": f"<think></think><answer>{format_changes(sample.changes)}</answer>",
        }
        for sample in map(row_to_sample, rows)
    ]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_perfect_predictions_in_any_order_and_with_more_fields(
    data_folder: Path, tmp_path: Path, perfect: list[dict[str, str]]
) -> None:
    rows = [{**row, "model": "an outsider's"} for row in reversed(perfect)]
    scores = score_file(data_folder, write(tmp_path / "p.jsonl", rows))
    tacc = scores["overall"]["tacc"]
    assert (tacc["value"], tacc["ci95"][1], tacc["n"]) == (1, 1, len(perfect))
    assert tacc["ci95"][0] == pytest.approx(0.025 ** (1 / tacc["scenes"]))
    assert scores["left"]["diff"]["value"] == 0
    assert scores["right"]["tacc"] == {"value": None, "ci95": None, "n": 0, "scenes": 0}


def test_empty_predictions_miss_every_change(
    data_folder: Path, tmp_path: Path, perfect: list[dict[str, str]]
) -> None:
    rows = [{**row, "completion": ""} for row in perfect]
    scores = score_file(data_folder, write(tmp_path / "p.jsonl", rows))
    changes = [row["completion"].count(".") // 2 for row in perfect]
    assert scores["overall"]["tacc"]["value"] == 0
    assert scores["overall"]["diff"]["value"] == pytest.approx(sum(changes) / len(changes))
    assert scores["overall"]["ndiff"]["value"] == pytest.approx(1)


GOOD = '{"id": "a", "completion": "x"}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{GOOD}\n{{"id": "b", "compl\n', ":2: not JSON"),
        (f"{GOOD}\n\xff\n", ":2: not JSON"),
        (f"{GOOD}\n{'[' * 100_000}\n", ":2: not JSON"),
        (f"{GOOD}\n[1]\n", ":2: not an object"),
        (f'{GOOD}\n{{"id": "b"}}\n', ":2: no field 'completion'"),
        ('{"completion": "x"}\n', ":1: no field 'id'"),
        ('{"id": 3, "completion": "x"}\n', ":1: field 'id' holds a int"),
        ('{"id": "a", "completion": null}\n', ":1: field 'completion' holds a NoneType"),
        ('{"id": "a", "completion": ["x"]}\n', ":1: field 'completion' holds a list"),
        (f'{GOOD}\n\n{{"id": "z", "completion": "x"}}\n', ":3: id 'z' is not in the data"),
        (f"{GOOD}\n{GOOD}\n", ":2: id 'a' occurs a second time"),
        ('{"id": "a", "completion": "x", "number": -1}\n', ":1: number '-1': write 0 to K - 1"),
        (f'{{"id": "a", "completion": "x", "number": {10**30}}}\n', ":1: number '1000"),
        (f'{{"id": "a", "completion": "x", "number": {"9" * 5000}}}\n', ":1: not JSON"),
        ('{"id": "a", "completion": "x", "status": "fine"}\n', ":1: status 'fine' is not one"),
        (f'{{"id": "{"a" * 10**6}", "completion": "x"}}\n', ":1: id 'aaaa"),
        ('{"id": "a\\n\\ud800", "completion": "x"}\n', r":1: id 'a\n\ud800' is not in the data"),
        ("\0\0\0\n", r":1: not JSON: '\x00\x00\x00'"),
        ('{"id": "a", "completion": "\0"}\n', ":1: not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as error:
        read_predictions(path, {"a", "b"})
    assert f"{path}{message}" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_an_empty_completion_without_a_status_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a", "completion": " "}\n{"id": "b", "completion": "none"}\n')
    found = read_completions(path, {"a", "b"})
    assert [own.status for (own,) in found.values()] == ["empty", "answered"]


def test_only_a_line_of_ours_says_what_its_prompt_began(tmp_path: Path) -> None:
    """Ours are stored whole, and are read strictly; the text of others tells."""
    path = tmp_path / "p.jsonl"
    text = "a</think><answer>2.color.cyan</answer>"
    ours = Completion("ours", text, key="0123").to_json()
    path.write_text(f"{ours}\n{json.dumps({'id': 'theirs', 'completion': text})}\n")
    found = read_completions(path)
    assert found["ours"][0].text == text
    assert found["theirs"][0].text == f"<think>{text}"


def test_a_row_may_have_any_number_of_completions(tmp_path: Path) -> None:
    many = 60_000
    path = tmp_path / "p.jsonl"
    lines = (f'{{"id": "a", "completion": "", "number": {n}}}\n' for n in reversed(range(many)))
    path.write_text("".join(lines))
    with patience():
        found = read_completions(path)
    assert [one.number for one in found["a"]] == list(range(many))


def test_all_broken_lines_are_counted_and_twenty_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(f'{{"id": "{n}", "completion": ""}}\n' for n in range(5000)))
    with pytest.raises(BrokenLines) as error:
        read_predictions(path, {"a"})
    message = str(error.value)
    assert message.startswith(f"{path}: 5000 broken lines: {path}:1: id '0' is not in the data")
    assert f"{path}:20: id '19'" in message
    assert message.endswith("; and 4980 more")
    assert "\n" not in message
    assert len(message) < 4000
    assert len(error.value.faults) == 5000


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_predictions(tmp_path / "absent.jsonl", {"a"})


def test_rows_without_prediction_are_an_error(
    data_folder: Path, tmp_path: Path, perfect: list[dict[str, str]]
) -> None:
    path = write(tmp_path / "p.jsonl", perfect[:1] + perfect[4:])
    missing = f"no prediction for '{perfect[1]['id']}', in all for 3 of the {len(perfect)} rows"
    with pytest.raises(UserError, match=missing):
        score_file(data_folder, path)


@pytest.mark.parametrize(
    ("metrics", "best"),
    [
        ("star", {"tacc": 1, "diff": 0, "position": 1}),
        ("basic", {"ObjAcc": 1, "AttrAcc": 1, "ValAcc": 1, "Acc": 1}),
        ("event", {"AD": 0, "AND": 0, "LAcc": 1, "Acc": 1, "EO": 0}),
        ("view", {"AD": 0, "AND": 0, "LAcc": 1, "Acc": 1, "EO": 0}),
    ],
)
def test_moves_are_read_and_scored_by_either_set(
    moves_folder: Path, tmp_path: Path, metrics: MetricSet, best: dict[str, float]
) -> None:
    samples = [row_to_sample(row) for row in read_columns(moves_folder, SAMPLE_COLUMNS)]
    lines = [
        {"id": s.id, "completion": f"<answer>{format_changes(s.changes)}</answer>"} for s in samples
    ]
    scores = score_file(moves_folder, write(tmp_path / "p.jsonl", lines), metrics)
    overall = {name: measured["value"] for name, measured in scores["overall"].items()}
    assert {name: overall[name] for name in best} == best
    assert ("top" in scores) == (metrics in ("star", "view"))
