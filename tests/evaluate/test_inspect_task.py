"""The task for Inspect AI, run and scored by Inspect itself, where it is."""

import base64
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.said import endpoint, say

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.data.marks import mark
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.scoring import score_completions, score_file
from star_r1.tvr.answer import parse_answer, whole
from star_r1.tvr.prompt import PROMPTS, build_prompt, has_table

HERE = Path(__file__).parent


def python() -> str:
    found = os.environ.get("STAR_R1_INSPECT_PYTHON")
    if not found:
        pytest.skip("no Inspect: STAR_R1_INSPECT_PYTHON names no Python that has it")
    return found


def run_inspect(folder: Path, runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What Inspect's Python interface makes of some runs, see the child."""
    done = subprocess.run(
        [python(), str(HERE / "inspect_child.py")],
        input=json.dumps(runs),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return list(json.loads(done.stdout.splitlines()[-1]))


def flat(scores: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a metrics.json by the names that they have in Inspect."""
    found = {}
    for group, metrics in scores.items():
        for name, measured in metrics.items() if "tacc" in metrics else ():
            if measured["n"]:
                found[f"{group}/{name}"] = measured["value"]
                found[f"{group}/{name}/low"], found[f"{group}/{name}/high"] = measured["ci95"]
    return found


def expect(data: Path, completions: Mapping[str, list[str]]) -> dict[str, float]:
    """What the runner writes of the same completions."""
    rows = [row for row in read_columns(data, SAMPLE_COLUMNS) if row["id"] in completions]
    said = {
        id: [Completion(id, text, number) for number, text in enumerate(texts)]
        for id, texts in completions.items()
    }
    return flat(score_completions(rows, said))


def read(data: Path, *more: str) -> list[dict[str, Any]]:
    return list(read_columns(data, (*SAMPLE_COLUMNS, "answer", "images", *more)))


def pixels(url: str) -> np.ndarray:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as opened:
        return np.asarray(opened.convert("RGB"))


def test_inspect_finds_the_module() -> None:
    (found,) = entry_points(group="inspect_ai", name="star_r1")
    module = Path(__file__).parents[2] / "src" / Path(*found.value.split(".")).with_suffix(".py")
    assert "def tvr(" in module.read_text()


@pytest.mark.inspect
def test_the_numbers_are_the_runners(data_folder: Path, moves_folder: Path, tmp_path: Path) -> None:
    runs = []
    for data in (data_folder, moves_folder):
        rows = read(data)
        once = {id: [text] for id, text in say(rows).items()}
        turned = [say(rows[start:] + rows[:start]) for start in range(3)]
        several = {row["id"]: [said[row["id"]] for said in turned] for row in rows}
        runs += [
            {"task": {"data": str(data)}, "completions": completions, "split": split}
            for completions, split in ((once, False), (once, True), (several, False))
        ]
    for run, seen in zip(runs, run_inspect(tmp_path, runs), strict=True):
        data, completions = Path(run["task"]["data"]), run["completions"]
        assert seen["metrics"] == expect(data, completions)
        assert seen["headline"] == "overall/tacc"
        assert 0 < seen["metrics"]["overall/tacc"] < 1
        assert ("overall/position" in seen["metrics"]) == (data == moves_folder)
        # What one completion adds is what the metrics are of it alone.
        samples = iter(seen["samples"])
        for number in range(len(next(iter(completions.values())))):
            for id, texts in completions.items():
                sample = next(samples)
                assert sample["id"] == id
                if not run["split"]:
                    assert sample["text"] == whole(texts[number])
                alone = expect(data, {id: [texts[number]]})
                value = {name: of for name, of in sample["value"].items() if of is not None}
                assert value == {name: alone[f"overall/{name}"] for name in value}
                assert {f"overall/{name}" for name in value} >= {
                    name for name in alone if name.count("/") == 1 and name.startswith("overall")
                }


@pytest.mark.inspect
def test_a_thinking_model_is_read_whole(data_folder: Path, tmp_path: Path) -> None:
    """Whether its text begins inside the block or Inspect has told the reasoning apart."""
    said = {
        row["id"]: [f"cyan</think>\n<answer>{row['answer']}</answer>"] for row in read(data_folder)
    }
    runs = [
        {"task": {"data": str(data_folder)}, "completions": completions, "split": split}
        for completions, split in (
            (said, False),
            ({id: [f"<think>{text}"] for id, (text,) in said.items()}, True),
        )
    ]
    for seen in run_inspect(tmp_path, runs):
        assert seen["metrics"]["overall/tacc"] == 1
        for sample in seen["samples"]:
            answer = parse_answer(sample["text"])
            assert (answer.well_formed, answer.reasoning.strip()) == (True, "cyan")


@pytest.mark.inspect
def test_what_is_asked(data_folder: Path, tmp_path: Path) -> None:
    rows = {row["id"]: row for row in read(data_folder) if row["view"] == "left"}
    runs = [
        {
            "task": {"data": str(data_folder), "views": "left", "prompt": prompt},
            "completions": {id: [""] for id in rows},
            "split": False,
        }
        for prompt in PROMPTS
    ]
    for run, seen in zip(runs, run_inspect(tmp_path, runs), strict=True):
        assert [question["id"] for question in seen["questions"]] == list(rows)
        for question, row in zip(seen["questions"], rows.values(), strict=True):
            check_question(question, row, run["task"]["prompt"])


def check_question(question: Mapping[str, Any], row: Mapping[str, Any], prompt: Any) -> None:
    sample = row_to_sample(row)
    assert question["target"] == row["answer"]
    images = []
    for message, wanted in zip(question["input"], build_prompt(sample, prompt), strict=True):
        assert message["role"] == wanted["role"]
        for part, of in zip(message["content"], wanted["content"], strict=True):
            assert part["type"] == of["type"]
            if part["type"] == "text":
                assert part["text"] == of["text"]
            else:
                images.append(pixels(part["image"]))
    first, second = (Image.open(BytesIO(image["bytes"])).convert("RGB") for image in row["images"])
    if not has_table(prompt):
        first = mark(first, sample.initial, sample.rig, "center")
    assert np.array_equal(images[0], np.asarray(first))
    assert np.array_equal(images[1], np.asarray(second))


@pytest.mark.inspect
def test_command_line_endpoint_and_scoring_anew(data_folder: Path, tmp_path: Path) -> None:
    rows = read(data_folder)
    said = say(rows)
    (tmp_path / "predictions.jsonl").write_text(
        "".join(Completion(id, text).to_json() + "\n" for id, text in said.items())
    )
    expected = flat(score_file(data_folder, tmp_path / "predictions.jsonl"))
    by_picture = {base64.b64encode(row["images"][1]["bytes"]).decode(): row["id"] for row in rows}

    def reply(body: Mapping[str, Any]) -> str:
        assert body["temperature"] == 0
        _, final, _ = body["messages"][1]["content"]
        return said[by_picture[final["image_url"]["url"].partition(",")[2]]]

    with endpoint(reply) as url:
        model = ["--model", "openai-api/stub/model", "--model-base-url", url]
        command_line(tmp_path, "eval", "star_r1/tvr", "-T", f"data={data_folder}", *model)
    (log,) = (tmp_path / "logs").iterdir()
    assert metrics(log) == expected

    # Without its results, and without the data, the log has all that scoring needs.
    bare = json.loads(log.read_bytes())
    del bare["results"]
    for sample in bare["samples"]:
        del sample["scores"]
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    again = tmp_path / "again.json"
    scorer = ["--scorer", "star_r1/tvr"]  # the log names it without its package (0.3.285)
    command_line(tmp_path, "score", "bare.json", *scorer, "--output-file", str(again))
    assert metrics(again) == expected


@pytest.mark.inspect
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=nowhere"], "nowhere: no such folder"),
        (["data=data", "views=left,top"], "data: no row has view 'top'; it holds center, left"),
        (["data=data", "prompt=loud"], "-T prompt=loud: choose think, direct"),
    ],
)
def test_mistakes(arguments: list[str], message: str, data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(data_folder)
    flags = [flag for argument in arguments for flag in ("-T", argument)]
    done = command_line(tmp_path, "eval", "star_r1/tvr", *flags, "--model", "mockllm/model", rc=1)
    assert message in " ".join(done.split())


def metrics(log: Path) -> dict[str, float]:
    (scores,) = json.loads(log.read_bytes())["results"]["scores"]
    return {name: of["value"] for name, of in scores["metrics"].items()}


def command_line(folder: Path, *arguments: str, rc: int = 0) -> str:
    more = ["--log-dir", "logs", "--log-format", "json"] if arguments[0] == "eval" else []
    done = subprocess.run(
        [python(), "-m", "inspect_ai", *arguments, *more, "--display", "plain"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "STUB_API_KEY": "none", "COLUMNS": "500"},
        timeout=300,
    )
    assert done.returncode == rc, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr
