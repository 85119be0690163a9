import json
from pathlib import Path
from typing import Any

import pytest

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns
from star_r1.errors import UserError
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.runs import read_evaluation
from star_r1.evaluate.scoring import score_completions


def write(folder: Path, record: dict[str, Any]) -> Path:
    (folder / "run.json").write_text(json.dumps({"data": "somewhere"}))
    (folder / "metrics.json").write_text(json.dumps(record))
    return folder


def record_of(data: Path, several: int) -> dict[str, Any]:
    rows = list(read_columns(data, SAMPLE_COLUMNS))
    said = {row["id"]: [Completion(row["id"], "", n) for n in range(several)] for row in rows}
    return score_completions(rows, said)


def test_what_stands_beside_the_groups_is_read_apart(moves_folder: Path, tmp_path: Path) -> None:
    run = read_evaluation(write(tmp_path, record_of(moves_folder, 2)))
    assert list(run.scores) == ["overall", "center", "left", "right", "top", "id", "ood"]
    assert run.samples["top"]["pass@2"]["n"] == 4
    assert run.answers["answered"] == 16
    assert set(run.trance) == {"basic", "event", "view"}


def test_one_completion_a_row_and_evaluations_of_old(data_folder: Path, tmp_path: Path) -> None:
    record = record_of(data_folder, 1)
    run = read_evaluation(write(tmp_path, record))
    assert (run.samples, run.answers["malformed"]) == ({}, 1.0)
    del record["answers"]
    run = read_evaluation(write(tmp_path, {**record, "usage": {"prompt_tokens": 7}}))
    assert (run.answers, run.usage) == ({}, {"prompt_tokens": 7})


@pytest.mark.parametrize(
    "damage",
    [
        {"samples": 3},
        {"samples": {"left": {}}},
        {"samples": {"overall": {}}},
        {"samples": {"overall": {"majority": {"value": None, "ci95": [0, 1], "n": 2}}}},
        {"answers": []},
        {"answers": [1]},
        {"answers": {"answered": 1}},
        {"usage": {"usd": None}},
    ],
)
def test_damage_is_named(data_folder: Path, tmp_path: Path, damage: dict[str, Any]) -> None:
    write(tmp_path, {**record_of(data_folder, 2), **damage})
    with pytest.raises(UserError, match=r"metrics\.json: damaged"):
        read_evaluation(tmp_path)


def test_answers_hold_numbers(data_folder: Path, tmp_path: Path) -> None:
    record = record_of(data_folder, 1)
    for damage in (None, "1", [], float("inf"), 10**400):
        record["answers"]["failed"] = damage
        with pytest.raises(UserError, match=r"metrics\.json: damaged"):
            read_evaluation(write(tmp_path, record))
