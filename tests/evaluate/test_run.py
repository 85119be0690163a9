import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_r1.data.dataset import shards
from star_r1.errors import UserError
from star_r1.evaluate.baselines import BaselinePredictor
from star_r1.evaluate.predictions import STATUSES, Completion, read_completions, read_predictions
from star_r1.evaluate.predictor import Question
from star_r1.evaluate.run import evaluate
from star_r1.evaluate.scoring import score_file
from star_r1.metrics import GROUPS, METRICS
from star_r1.trance_metrics import SETTINGS

ROWS = 24


@pytest.fixture(scope="module")
def run(model_folder: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated") / "run"
    evaluate(str(model_folder), data_folder, out, max_new_tokens=6)
    return out


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def again(model: Path, data: Path, out: Path, **changed: Any) -> Any:
    return evaluate(str(model), data, out, **{"max_new_tokens": 6, **changed})


def test_writes_predictions_settings_and_metrics(run: Path, data_folder: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == [
        "metrics.json",
        "predictions.jsonl",
        "run.json",
    ]
    scores = json.loads((run / "metrics.json").read_text())
    answers, usage = scores["answers"], scores.pop("usage")
    assert scores == score_file(data_folder, run / "predictions.jsonl")
    del scores["answers"], scores["truth"]
    assert list(scores) == list(GROUPS)
    assert all(list(group) == list(METRICS) for group in scores.values())
    assert scores["overall"]["tacc"]["n"] == ROWS
    assert sum(answers[status] for status in STATUSES) == ROWS
    assert usage["completion_tokens"] == ROWS * 6  # random weights do not end by themselves
    assert usage["prompt_tokens"] > ROWS * 20
    about = json.loads((run / "run.json").read_text())
    assert about["data"] == str(data_folder)
    assert about["n"] == ROWS
    assert about["identity"]["dtype"] in ("float32", "bfloat16")
    assert {"commit", "date", "machine", "versions"} <= set(about)


@pytest.mark.parametrize("cut", [0, 1, 7, "half a line"])
def test_an_interrupted_run_goes_on(
    copy: Path, run: Path, model_folder: Path, data_folder: Path, cut: int | str
) -> None:
    lines = (run / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    kept = b"".join(lines[:5]) + lines[5][:20] if isinstance(cut, str) else b"".join(lines[:cut])
    (copy / "predictions.jsonl").write_bytes(kept)
    (copy / "metrics.json").unlink()
    again(model_folder, data_folder, copy, batch_size=3)
    ids = {json.loads(line)["id"] for line in lines}
    assert read_predictions(copy / "predictions.jsonl", ids) == read_predictions(
        run / "predictions.jsonl", ids
    )
    assert (copy / "metrics.json").read_bytes() == (run / "metrics.json").read_bytes()


def test_a_finished_run_is_not_run_again(copy: Path, model_folder: Path, data_folder: Path) -> None:
    before = (copy / "predictions.jsonl").read_bytes()
    assert again(model_folder, data_folder, copy)["overall"]["tacc"]["n"] == ROWS
    assert (copy / "predictions.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"max_new_tokens": 7}, "max_new_tokens 6 (now 7)"),
        ({"views": ("left",)}, "rows that are left out now"),
        ({"limit": 3}, "rows that are left out now"),
        ({"seed": 1}, "seed 0 (now 1)"),
        ({"prompt": "direct"}, "prompt think (now direct)"),
        ({"temperature": 1.0}, "temperature None (now 1.0)"),
        ({"samples_per_prompt": 2, "temperature": 1.0}, "samples_per_prompt 1 (now 2)"),
    ],
)
def test_other_settings_want_another_folder(
    copy: Path, model_folder: Path, data_folder: Path, changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match="choose another --out") as error:
        again(model_folder, data_folder, copy, **changed)
    assert named in str(error.value)


def test_other_weights_under_the_same_name_want_another_folder(
    copy: Path, model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    from star_r1.model.loading import load_model

    model = load_model(str(model_folder))
    model.model.language_model.norm.weight.data[0] += 0.5
    other = Path(shutil.copytree(model_folder, tmp_path / "model"))
    model.save_pretrained(other)
    with pytest.raises(UserError, match=r"weights \w+ \(now \w+\)"):
        again(other, data_folder, copy)


def test_another_chat_template_wants_another_folder(
    copy: Path, model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(model_folder, tmp_path / "model"))
    with (other / "chat_template.jinja").open("a") as file:
        file.write("Think twice.")
    with pytest.raises(UserError, match=r"processor \w+ \(now \w+\)"):
        again(other, data_folder, copy)


def test_two_at_once_want_two_folders(data_folder: Path, tmp_path: Path) -> None:
    """Each would ask what the other has not answered yet, and both would write it."""
    out, asked = tmp_path / "run", []

    class Slow(BaselinePredictor):
        def predict(self, questions: Iterable[Question]) -> Iterator[Completion]:
            questions = list(questions)
            asked.append(len(questions))
            with pytest.raises(UserError, match="another process is evaluating into it"):
                evaluate("baseline:silent", data_folder, out)
            yield from super().predict(questions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("star_r1.evaluate.baselines.BaselinePredictor", Slow)
        evaluate("baseline:silent", data_folder, out)
    assert asked == [ROWS]
    assert len(read_completions(out / "predictions.jsonl")) == ROWS
    evaluate("baseline:silent", data_folder, out)  # nobody holds it now


def test_data_that_were_moved_are_found_again(data_folder: Path, tmp_path: Path) -> None:
    """Other commands read the rows where run.json says that they are."""
    out, data = tmp_path / "run", Path(shutil.copytree(data_folder, tmp_path / "data"))
    evaluate("baseline:silent", data, out)
    about = json.loads((out / "run.json").read_text())
    predictions = (out / "predictions.jsonl").read_bytes()
    moved = data.rename(tmp_path / "moved")
    evaluate("baseline:silent", moved, out)
    assert json.loads((out / "run.json").read_text()) == {**about, "data": str(moved)}
    assert (out / "predictions.jsonl").read_bytes() == predictions


@pytest.mark.parametrize(
    ("settings", "trained", "entered"),
    [
        ({}, {}, True),
        ({"temperature": 1.0}, {}, False),
        ({"prompt": "direct"}, {}, False),
        ({}, {"chat_template_kwargs": {"enable_thinking": False}}, False),
    ],
)
def test_greedy_answers_to_the_prompt_of_the_training_enter_the_card(
    model_folder: Path,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    trained: dict[str, Any],
    entered: bool,
) -> None:
    record = {"settings": trained}
    monkeypatch.setattr("star_r1.train.record.read_record", lambda folder: record)
    cards: list[Path] = []
    monkeypatch.setattr("star_r1.train.card.update_card", lambda folder, _: cards.append(folder))
    again(model_folder, data_folder, tmp_path / "run", limit=1, **settings)
    assert cards == ([model_folder] if entered else [])


def test_a_folder_named_mini_is_not_the_embedded_model(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").mkdir()
    training = json.dumps({"steps": 3, "method": "grpo"})
    (tmp_path / "mini" / "training.json").write_text(training)
    evaluate("mini", data_folder, tmp_path / "run", limit=1, max_new_tokens=1)
    assert [path.name for path in (tmp_path / "mini").iterdir()] == ["training.json"]
    assert (tmp_path / "mini" / "training.json").read_text() == training


def test_more_rows_join_those_that_are_answered(
    run: Path, model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    again(model_folder, data_folder, tmp_path / "run", limit=5)
    first = (tmp_path / "run" / "predictions.jsonl").read_bytes()
    again(model_folder, data_folder, tmp_path / "run")
    lines = (tmp_path / "run" / "predictions.jsonl").read_bytes()
    assert lines.startswith(first)
    assert sorted(lines.splitlines()) == sorted(
        (run / "predictions.jsonl").read_bytes().splitlines()
    )
    for name in ("metrics.json", "run.json"):
        before, now = (
            json.loads((folder / name).read_text()) for folder in (run, tmp_path / "run")
        )
        when = {"date": None, "commit": None}  # somebody may commit between the two
        assert before | when == now | when


def test_answers_to_another_question_are_not_taken(
    copy: Path, model_folder: Path, data_folder: Path
) -> None:
    lines = (copy / "predictions.jsonl").read_text().splitlines()
    row = json.loads(lines[3])
    lines[3] = json.dumps({**row, "key": "0" * 16})
    (copy / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=f"the answer to '{row['id']}' was given to another"):
        again(model_folder, data_folder, copy)


def test_what_failed_is_asked_again(
    copy: Path, run: Path, model_folder: Path, data_folder: Path
) -> None:
    rows = [json.loads(line) for line in (copy / "predictions.jsonl").read_text().splitlines()]
    for row in rows[::5]:
        row |= {"completion": "", "status": "failed", "error": "status 500: no"}
    (copy / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    again(model_folder, data_folder, copy)
    lines = [(folder / "predictions.jsonl").read_bytes().splitlines() for folder in (copy, run)]
    assert sorted(lines[0]) == sorted(lines[1])


def test_several_completions_a_row(model_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    several = {"samples_per_prompt": 3, "temperature": 1.0, "limit": 6}
    again(model_folder, data_folder, tmp_path / "run", **several)
    found = read_completions(tmp_path / "run" / "predictions.jsonl")
    assert [[one.number for one in of] for of in found.values()] == [[0, 1, 2]] * 6
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics["samples"]["overall"]) == ["pass@1", "pass@2", "pass@3", "majority"]
    # Fewer completions are some of the same ones, and a run goes on in the middle of a row.
    again(model_folder, data_folder, tmp_path / "two", **{**several, "samples_per_prompt": 2})
    fewer = read_completions(tmp_path / "two" / "predictions.jsonl")
    assert {id: of[:2] for id, of in found.items()} == fewer
    lines = (tmp_path / "run" / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run" / "predictions.jsonl").write_bytes(b"".join(lines[1:8]))
    again(model_folder, data_folder, tmp_path / "run", **several, batch_size=2)
    assert read_completions(tmp_path / "run" / "predictions.jsonl") == found
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics


@pytest.mark.parametrize("prompt", ["direct", "think-no-table", "direct-no-table"])
def test_other_prompts(model_folder: Path, data_folder: Path, tmp_path: Path, prompt: str) -> None:
    scores = again(model_folder, data_folder, tmp_path / "run", prompt=prompt, limit=2)
    assert scores["overall"]["tacc"]["n"] == 2
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["identity"]["prompt"] == prompt


@pytest.mark.parametrize("model", ["mini", "baseline:silent"])
def test_a_broken_picture_is_named_and_what_is_answered_stays(
    data_folder: Path, tmp_path: Path, model: str
) -> None:
    (path,) = shards(data_folder)
    table = pq.read_table(path)
    rows = table.to_pylist()
    content = rows[7]["images"][1]["bytes"]
    rows[7]["images"][1]["bytes"] = content[:100] + bytes(400) + content[500:]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "data" / path.name)
    message = f"row '{rows[7]['id']}': its final picture is damaged"
    with pytest.raises(UserError, match=message) as error:
        evaluate(model, tmp_path, tmp_path / "run", batch_size=1, max_new_tokens=1)
    assert "\n" not in str(error.value)
    answered = read_completions(tmp_path / "run" / "predictions.jsonl")
    assert 0 < len(answered) < len(rows)


def test_baselines_are_a_floor_and_a_ceiling(data_folder: Path, tmp_path: Path) -> None:
    tacc = {
        name: evaluate(f"baseline:{name}", data_folder, tmp_path / name)["overall"]["tacc"]["value"]
        for name in ("silent", "random", "enumerate", "oracle")
    }
    assert tacc["silent"] == tacc["enumerate"] == 0
    assert tacc["random"] is not None
    assert tacc["random"] < 0.5
    assert tacc["oracle"] == 1


def test_views_and_limit_score_the_rows_that_ran(
    model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    scores = again(model_folder, data_folder, tmp_path / "run", views=("left",), limit=3)
    assert {group: scores[group]["tacc"]["n"] for group in GROUPS} == {
        "overall": 3,
        "center": 0,
        "left": 3,
        "right": 0,
        "id": 0,
        "ood": 3,
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"limit": 0}, "--limit 0"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"max_new_tokens": -1}, "--max-new-tokens -1"),
        ({"views": ("top",)}, "'top'"),
        ({"views": ("right",)}, "'right'"),
        ({"prompt": "loud"}, "--prompt loud: choose think, direct"),
        ({"samples_per_prompt": 0}, "--samples-per-prompt 0"),
        ({"samples_per_prompt": 2}, "greedy completions are all the same"),
        ({"few_shot": 2}, "give both"),
        ({"few_shot": -1}, "--few-shot -1"),
        ({"temperature": None}, "an endpoint has one, a local model has not"),
    ],
)
def test_arguments_out_of_range(
    model_folder: Path, data_folder: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        again(model_folder, data_folder, tmp_path / "run", **changed)


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"identity": 3}'])
def test_a_damaged_record(copy: Path, model_folder: Path, data_folder: Path, damage: str) -> None:
    (copy / "run.json").write_text(damage)
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        again(model_folder, data_folder, copy)


def test_a_folder_that_is_taken(model_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another folder"):
        again(model_folder, data_folder, tmp_path / "file")
    (tmp_path / "predictions.jsonl").touch()
    with pytest.raises(UserError, match=r"without run\.json"):
        again(model_folder, data_folder, tmp_path)


def test_trances_metrics_stand_beside_where_objects_move(
    model_folder: Path, moves_folder: Path, tmp_path: Path
) -> None:
    scores = again(model_folder, moves_folder, tmp_path / "run")
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    trance = written.pop("trance")
    assert {group: of for group, of in written.items() if group in scores} == scores
    assert "position" in scores["top"]
    predictions = tmp_path / "run" / "predictions.jsonl"
    assert trance == {
        setting: score_file(moves_folder, predictions, setting) for setting in SETTINGS
    }
