"""The task folder for lmms-eval: its files, its functions; and, where lmms-eval is, run by it."""

import base64
import importlib.util
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from PIL import Image
from tests.said import endpoint, say

import star_r1
from star_r1.data import export_lmms_eval
from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.data.export_lmms_eval import FEATURES
from star_r1.data.export_lmms_eval import export_lmms_eval as export
from star_r1.errors import UserError
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.scoring import score_completions, score_file
from star_r1.metrics import METRICS
from star_r1.tvr.prompt import build_prompt

HERE = Path(__file__).parent
Said = Mapping[str, Sequence[str]]
"""By id, the completions of a row."""


def read(data: Path) -> list[dict[str, Any]]:
    return list(read_columns(data, (*SAMPLE_COLUMNS, "prompt", "answer", "images")))


def expect(data: Path, said: Said) -> dict[str, float | None]:
    """What the runner writes of the same completions, by the names of the task."""
    completions = {
        id: [Completion(id, text, number) for number, text in enumerate(texts)]
        for id, texts in said.items()
    }
    rows = list(read_columns(data, SAMPLE_COLUMNS))
    scores = score_completions(rows, completions)
    found = {name: of["value"] for name, of in scores["overall"].items()}
    return found | {f"tacc_{group}": scores[group]["tacc"]["value"] for group in ("id", "ood")}


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file in which ``!function`` stands before names, which are kept as they are."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: f"!{loader.construct_scalar(node)}")
    return dict(yaml.load(path.read_text(), Loader))


def load_utils(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("utils", folder / "utils.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows(data_folder: Path, tmp_path: Path) -> None:
    done = export(data_folder, tmp_path / "out", ["left"])
    assert (done.samples, done.rows) == (12, 12)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("README.md", "export.json", "test.parquet", "tvr.yaml", "utils.py")
    }
    schema = pq.read_schema(tmp_path / "out" / "test.parquet")
    assert schema.equals(FEATURES.arrow_schema)
    rows = load_dataset("parquet", data_files=str(tmp_path / "out" / "test.parquet"))["train"]
    utils = load_utils(tmp_path / "out")
    sources = [row for row in read(data_folder) if row["view"] == "left"]
    for row, source in zip(rows, sources, strict=True):
        assert {name: row[name] for name in SAMPLE_COLUMNS} == {
            name: source[name] for name in SAMPLE_COLUMNS
        }
        assert row["answer"] == source["answer"]
        check_question(utils.doc_to_messages(row), source)
        pictures = [part["url"] for part in utils.doc_to_messages(row)[1]["content"][:2]]
        assert all(map(np.array_equal, utils.doc_to_visual(row), pictures))
        instruction, question = (
            message["content"][-1]["text"] for message in build_prompt(row_to_sample(source))
        )
        assert utils.doc_to_text(row) == f"{instruction}\n{question}"


def check_question(messages: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> None:
    pictures = iter(row["images"])
    for message, wanted in zip(messages, build_prompt(row_to_sample(row)), strict=True):
        assert message["role"] == wanted["role"]
        for part, of in zip(message["content"], wanted["content"], strict=True):
            assert part["type"] == of["type"]
            if part["type"] == "text":
                assert part["text"] == of["text"]
            else:
                assert np.array_equal(np.asarray(part["url"]), pixels(next(pictures)))


def pixels(picture: Mapping[str, Any]) -> np.ndarray:
    with Image.open(BytesIO(picture["bytes"])) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize("folder", ["data_folder", "moves_folder"])
def test_the_task(folder: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    export(request.getfixturevalue(folder), tmp_path)
    task, utils = load_yaml(tmp_path / "tvr.yaml"), load_utils(tmp_path)
    assert task["task"] == "tvr"
    assert task["dataset_kwargs"] == {"data_files": {"test": "test.parquet"}}
    named = [of for of in (*task.values(), *task["metric_list"]) if isinstance(of, str)]
    functions = {of.removeprefix("!utils.") for of in named if of.startswith("!")}
    functions |= {of["aggregation"].removeprefix("!utils.") for of in task["metric_list"]}
    assert functions == set(utils.__all__)
    assert all(callable(getattr(utils, name)) for name in functions)
    assert task["doc_to_target"] in FEATURES
    # Nothing may be cut off a completion before our parser reads it.
    assert task["reasoning_tags"] == "none"
    assert task["generation_kwargs"]["until"] == []
    metrics = [of["metric"] for of in task["metric_list"]]
    moves = folder == "moves_folder"
    assert set(metrics) == {*METRICS, "tacc_id", "tacc_ood", *(["position"] if moves else [])}
    lower = {of["metric"] for of in task["metric_list"] if not of["higher_is_better"]}
    assert lower == {"diff", "ndiff"}


@pytest.mark.parametrize("folder", ["data_folder", "moves_folder"])
def test_the_functions_give_the_runners_numbers(
    folder: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data: Path = request.getfixturevalue(folder)
    export(data, tmp_path)
    utils, rows = load_utils(tmp_path), read(data)
    said = {id: [text] for id, text in say(rows).items()}
    added = [utils.process_results(row, said[row["id"]]) for row in rows]
    metrics = [of["metric"] for of in load_yaml(tmp_path / "tvr.yaml")["metric_list"]]
    assert all(set(values) == set(metrics) for values in added)
    found = {name: utils.aggregate([values[name] for values in added]) for name in metrics}
    assert found == expect(data, said)
    assert 0 < found["tacc"] < 1
    assert found["objects_9_10"] is None


def test_goes_on_after_an_interruption(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(data_folder, tmp_path / "whole")

    def interrupt(*_: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(export_lmms_eval, "_yaml", interrupt)
        with pytest.raises(KeyboardInterrupt):
            export(data_folder, tmp_path / "out")
    export(data_folder, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        there = (tmp_path / "out" / name).read_bytes()
        assert there == (tmp_path / "whole" / name).read_bytes()


def test_folders_of_something_else_are_left_alone(
    data_folder: Path, moves_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="exists and is no export of star-r1"):
        export(data_folder, data_folder)
    export(data_folder, tmp_path / "out")
    with pytest.raises(UserError, match="holds an export with sha256"):
        export(moves_folder, tmp_path / "out")
    with pytest.raises(UserError, match="no row has one of the views top"):
        export(data_folder, tmp_path / "top", ["top"])
    assert not (tmp_path / "top" / "tvr.yaml").exists()


def run_lmms_eval(folder: Path, *arguments: str, given: str = "") -> str:
    """Let the Python that has lmms-eval run something; what it prints."""
    python = os.environ.get("STAR_R1_LMMS_EVAL_PYTHON")
    if not python:
        pytest.skip("no lmms-eval: STAR_R1_LMMS_EVAL_PYTHON names no Python that has it")
    done = subprocess.run(
        [python, *arguments],
        input=given,
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(star_r1.__file__).parents[1]),
            "HF_DATASETS_CACHE": str(folder / "cache"),
            "CUDA_VISIBLE_DEVICES": "",
        },
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def metrics(results: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a task in lmms-eval's results, without its own standard errors."""
    return {
        name.removesuffix(",none"): value
        for name, value in results.items()
        if name.endswith(",none") and "_stderr" not in name
    }


@pytest.mark.lmms_eval
@pytest.mark.parametrize(
    ("folder", "chat"), [("data_folder", True), ("moves_folder", False), ("moves_folder", True)]
)
def test_lmms_eval_asks_and_scores_as_we_do(
    folder: str, chat: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data: Path = request.getfixturevalue(folder)
    export(data, tmp_path / "out")
    rows = read(data)
    said = {id: [text] for id, text in say(rows).items()}
    asked = {"folder": str(tmp_path / "out"), "completions": said, "chat": chat}
    printed = run_lmms_eval(tmp_path, str(HERE / "lmms_eval_child.py"), given=json.dumps(asked))
    seen = json.loads(printed.splitlines()[-1])
    assert metrics(seen["results"]) == expect(data, said)
    for question, row in zip(seen["asked"], rows, strict=True):
        assert question["id"] == row["id"]
        assert question["kwargs"]["until"] == []
        assert question["kwargs"]["temperature"] == 0
        system, user = build_prompt(row_to_sample(row))
        texts = [system["content"][0]["text"], user["content"][2]["text"]]
        pictures = [pixels(picture).tolist() for picture in row["images"]]
        if chat:
            first, second = question["asked"]
            assert first == {"role": "system", "content": texts[:1]}
            assert second == {"role": "user", "content": [*pictures, texts[1]]}
        else:
            assert question["asked"] == ["\n".join(texts), *pictures]


@pytest.mark.lmms_eval
def test_command_line_and_endpoint(data_folder: Path, tmp_path: Path) -> None:
    export(data_folder, tmp_path / "out")
    rows = read(data_folder)
    said = say(rows)
    (tmp_path / "predictions.jsonl").write_text(
        "".join(Completion(id, text).to_json() + "\n" for id, text in said.items())
    )
    scores = score_file(data_folder, tmp_path / "predictions.jsonl")
    by_picture = {pixels(row["images"][1]).tobytes(): row["id"] for row in rows}

    def reply(body: Mapping[str, Any]) -> str:
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        _, final, _ = body["messages"][1]["content"]
        png = base64.b64decode(final["image_url"]["url"].partition(",")[2])
        return said[by_picture[pixels({"bytes": png}).tobytes()]]

    with endpoint(reply) as url:
        run_lmms_eval(
            tmp_path,
            *("-m", "lmms_eval", "--model", "openai"),
            *("--model_args", f"model=parrot,base_url={url},api_key=none"),
            *("--include_path", "out", "--tasks", "tvr", "--batch_size", "1"),
            *("--output_path", "results", "--log_samples"),
            *("--reasoning_tags", '[["<think>", "</think>"]]'),  # the task forbids it
        )
    (path,) = (tmp_path / "results").rglob("*results.json")
    found = metrics(json.loads(path.read_bytes())["results"]["tvr"])
    assert {name: found.pop(f"tacc_{name}") for name in ("id", "ood")} == {
        name: scores[name]["tacc"]["value"] for name in ("id", "ood")
    }
    assert found == {name: of["value"] for name, of in scores["overall"].items()}
