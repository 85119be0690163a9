"""The record and the card of a run: what they say, and what they keep to themselves."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from star_r1.evaluate.run import evaluate
from star_r1.evaluate.scoring import score_file
from star_r1.train import grpo, sft
from star_r1.train.arguments import StarArguments
from star_r1.train.card import public_command, update_card, write_card
from star_r1.train.record import (
    TRAINING,
    describe_data,
    describe_training,
    read_record,
    record_training,
)
from star_r1.train.start import Start

RECORD = {
    "method": "grpo",
    "base_model": "Qwen/Qwen2.5-VL-7B-Instruct",
    "adapter": False,
    "data": {
        "path": "/home/me/pairs",
        "name": "pairs",
        "rows": 9000,
        "views": ["center"],
        "seed": 3,
        "manifest_sha256": "0123456789abcdef" * 4,
    },
    "reward": {"name": "star", "exact": 5.0, "matching": "one-to-one"},
    "command": ["star-r1", "train", "grpo", "--data", "/home/me/pairs", "--hub_token", "hf_secret"],
    "settings": {"learning_rate": 1e-6, "lora_target_modules": ".*(q_proj|v_proj)$"},
    "device": "NVIDIA H200",
    "processes": 8,
    "commit": "abc",
    "date": "2026-01-02T03:04:05+00:00",
    "machine": {"processor": "a processor", "cores": 64},
    "versions": {"star-r1": "0.1.0", "torch": "2.13.0"},
    "steps": 1000,
    "seconds": 3 * 3600 + 25 * 60 + 7,
}


@pytest.fixture
def trained(model_folder: Path, data_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Two steps of SFT."""
    return lambda *flags: train(model_folder, data_folder, tmp_path / "run", *flags)


@pytest.fixture(scope="module")
def ended(model_folder: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, not to be changed."""
    return train(model_folder, data_folder, tmp_path_factory.mktemp("ended") / "run")


def train(model: Path, data: Path, out: Path, *flags: str) -> Path:
    folders = ["--model", model, "--data", data, "--output_dir", out]
    size = ["--use_cpu", "--report_to", "none", "--max_steps", "2", "--learning_rate", "1e-2"]
    assert sft.main([*map(str, folders), *size, *flags]) == 0
    return out


@pytest.fixture
def evaluation(data_folder: Path, tmp_path: Path) -> Path:
    """What 'star-r1 evaluate' writes, of a model that answers every pair alike."""
    from star_r1.data.dataset import read_columns

    folder = tmp_path / "evaluation"
    folder.mkdir()
    lines = [
        {"id": row["id"], "completion": "<think></think><answer>0.color.red</answer>"}
        for row in read_columns(data_folder, ["id"])
    ]
    predictions = folder / "predictions.jsonl"
    predictions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "metrics.json").write_text(json.dumps(score_file(data_folder, predictions)))
    (folder / "run.json").write_text(json.dumps({"data": str(data_folder), "commit": "def"}))
    return folder


def header(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_what_a_card_says() -> None:
    card = write_card(RECORD)
    for said in (
        "# Qwen/Qwen2.5-VL-7B-Instruct, trained by GRPO and the star reward",
        "| data | pairs, seed 3, manifest 0123456789abcdef (SHA-256); 9000 rows, views center |",
        "| reward | star: exact 5, matching one-to-one |",
        "| steps | 1000 |",
        "| time | 3 h 25 min 07 s |",
        "| hardware | 8 x NVIDIA H200; a processor (64 cores) |",
        "| commit | abc, 2026-01-02T03:04:05+00:00 |",
        "| `learning_rate` | 1e-06 |",
        r"| `lora_target_modules` | .*(q_proj\|v_proj)$ |",
        "star-r1 train grpo --data pairs --hub_token ...",
        "It has not been evaluated yet.",
        "the licence of Qwen/Qwen2.5-VL-7B-Instruct",
        "arXiv:2505.15804",
    ):
        assert said in card
    assert "/home" not in card
    assert "hf_secret" not in card
    assert header(card)["base_model"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert header(card)["library_name"] == "transformers"


def test_only_a_name_on_the_hub_is_a_base_model() -> None:
    """And the embedded model's licence is known."""
    assert "base_model" not in header(write_card({**RECORD, "base_model": "/home/me/sft"}))
    assert "# sft, trained by" in write_card({**RECORD, "base_model": "/home/me/sft"})
    assert header(write_card({**RECORD, "base_model": "mini"}))["license"] == "apache-2.0"
    assert header(write_card({**RECORD, "adapter": True}))["library_name"] == "peft"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--config", "recipes/a.yaml", "--beta=0.04"], "--config recipes/a.yaml --beta=0.04"),
        (["--data=/data/x/pairs"], "--data=pairs"),
        (["--model", "~/m", "--deepspeed", "../z3.json"], "--model m --deepspeed z3.json"),
        (["--hub_token", "hf_x", "--seed", "1"], "--hub_token ... --seed 1"),
        (["--push_to_hub_token=hf_x"], "--push_to_hub_token=..."),
        (["--vllm_server_base_url", "http://10.0.0.1:80/"], "--vllm_server_base_url ..."),
        (
            ["--model_init_kwargs", '{"cache_dir": "/scratch/c"}'],
            '--model_init_kwargs {"cache_dir": "c"}',
        ),
        (["--model", "Qwen/Qwen2.5-VL-7B-Instruct"], "--model Qwen/Qwen2.5-VL-7B-Instruct"),
        (
            ["--lora_target_modules", ".*(q_proj|v_proj)$"],
            "--lora_target_modules .*(q_proj|v_proj)$",
        ),
        (["--learning_rate", "-1e-6"], "--learning_rate -1e-6"),
    ],
)
def test_a_command_in_a_card(words: list[str], shown: str) -> None:
    assert public_command(words) == shown


def test_the_card_of_a_run(ended: Path, model_folder: Path) -> None:
    card = (ended / "README.md").read_text()
    assert "trained by the answers alone (STAR-SFT)" in card
    assert "| steps | 2 |" in card
    assert "| data | data" in card
    assert "; 12 rows, views center |" in card
    assert str(ended.parent) not in card
    assert str(model_folder.parent) not in card
    ModelCard.load(ended / "README.md")
    record = read_record(ended)
    assert record["steps"] == 2
    assert record["seconds"] >= 0
    assert Path(record["data"]["path"]).is_dir()


def test_a_token_is_not_written_down(tmp_path: Path) -> None:
    arguments = StarArguments(data="x", views=["left"])
    args = SimpleNamespace(device=torch.device("cpu"), world_size=1, max_steps=3)
    words = ["--hub_token", "hf_secret", "--push_to_hub_token=hf_secret", "--beta", "0"]
    start = Start(tmp_path, identity={"method": "grpo"})
    record_training(tmp_path, describe_training(words, arguments, args, 3, start))
    assert "hf_secret" not in (tmp_path / TRAINING).read_text()
    assert read_record(tmp_path)["legs"][0]["command"][-2:] == ["--beta", "0"]


def test_the_reward_and_its_numbers(model_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    folders = ["--model", model_folder, "--data", data_folder, "--output_dir", tmp_path / "run"]
    size = "--use_cpu --report_to none --max_steps 1 --num_generations 4 --max_completion_length 4"
    more = "--per_device_train_batch_size 8 --reward_object 0"
    assert grpo.main([*map(str, folders), *size.split(), *more.split()]) == 0
    card = (tmp_path / "run" / "README.md").read_text()
    assert "| reward | star: format 1, exact 5, attribute 1.5, object 0, " in card
    assert "| `num_generations` | 4 |" in card


def test_an_evaluation_enters_the_card_and_stays(
    trained: Callable[..., Path], evaluation: Path
) -> None:
    run = trained("--lr_scheduler_type", "constant")
    update_card(run, evaluation)
    scores = json.loads((evaluation / "metrics.json").read_text())
    card = (run / "README.md").read_text()
    assert "It has not been evaluated" not in card
    assert "| metric | overall (n = 24) | center (n = 12) | left (n = 12) |" in card
    (results,) = [model_index_to_eval_results(header(card)["model-index"])[1]]
    found = {result.metric_name: result.metric_value for result in results}
    assert len([name for name in found if "(" not in name]) == 11 - sum(
        of["value"] is None for of in scores["overall"].values()
    )
    assert found["tacc"] == round(100 * scores["overall"]["tacc"]["value"], 1)
    assert found["tacc (center)"] == round(100 * scores["center"]["tacc"]["value"], 1)
    assert found["diff"] == round(scores["overall"]["diff"]["value"], 2)
    # the same command again leaves it; more steps make it one of older weights
    trained("--lr_scheduler_type", "constant")
    assert (run / "README.md").read_text() == card
    trained("--lr_scheduler_type", "constant", "--max_steps", "4")
    assert "It has not been evaluated yet" in (run / "README.md").read_text()


def test_an_evaluation_of_older_weights_goes(tmp_path: Path) -> None:
    """Also where a run that was killed had not written how many steps there were."""
    evaluated = {**RECORD, "evaluation": {"steps": 1000}}
    (tmp_path / TRAINING).write_text(json.dumps(evaluated))
    record_training(tmp_path, read_record(tmp_path), steps=1000)
    assert "evaluation" in read_record(tmp_path)
    record_training(tmp_path, read_record(tmp_path), steps=1200)
    assert "evaluation" not in read_record(tmp_path)


def test_evaluating_a_run_completes_its_card(
    ended: Path, data_folder: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(ended, tmp_path / "run"))
    evaluate(str(run), data_folder, run / "evaluation", max_new_tokens=2, limit=2)
    assert "| metric | overall (n = 2) |" in (run / "README.md").read_text()


def test_a_model_of_others_gets_no_card(model_folder: Path, evaluation: Path) -> None:
    before = sorted(model_folder.iterdir())
    update_card(model_folder, evaluation)
    assert sorted(model_folder.iterdir()) == before


def test_a_run_in_training_gets_no_card(tmp_path: Path) -> None:
    about = {name: value for name, value in RECORD.items() if name not in ("steps", "seconds")}
    record_training(tmp_path, about)
    update_card(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [TRAINING]


def test_where_data_come_from(tmp_path: Path) -> None:
    """From the manifest in the folder, or beside the folder of a split."""
    data = tmp_path / "pairs"
    (data / "data").mkdir(parents=True)
    (data / "train").mkdir()
    assert describe_data(data) == {"name": "pairs", "seed": None, "manifest_sha256": None}
    splits = {"train": {"seed": 5}, "test": {"seed": 6}}
    (data / "manifest.json").write_text(json.dumps({"settings": {"splits": splits}, "files": {}}))
    assert describe_data(data)["seed"] is None  # each has its own
    found = describe_data(data / "train")
    assert found["name"] == "pairs/train"
    assert found["seed"] == 5
    assert len(found["manifest_sha256"]) == 64


@pytest.mark.parametrize(
    "text",
    [
        "[" * 9999,
        "7",
        '{"settings": {"splits": {"train": 7}}, "files": {}}',
        '{"settings": {"splits": {"train": {"seed": [1]}}}, "files": {}}',
        '{"settings": {"splits": [1]}, "files": {}}',
        None,
    ],
)
def test_a_manifest_that_makes_no_sense_has_no_seed(tmp_path: Path, text: str | None) -> None:
    if text is None:
        os.mkfifo(tmp_path / "manifest.json")
    else:
        (tmp_path / "manifest.json").write_text(text)
    assert describe_data(tmp_path)["seed"] is None


def test_plain_transformers_loads_the_folder(ended: Path) -> None:
    model, info = AutoModelForImageTextToText.from_pretrained(ended, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"


def test_plain_transformers_and_peft_load_an_adapter(
    trained: Callable[..., Path], model_folder: Path
) -> None:
    run = trained("--use_peft")
    config = json.loads((run / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(model_folder)
    assert not (run / "model.safetensors").exists()
    assert "this is a LoRA adapter" in (run / "README.md").read_text()
    saved = load_file(run / "adapter_model.safetensors")
    learned = [tensor for name, tensor in saved.items() if "lora_B" in name]
    assert any(tensor.abs().max() > 0 for tensor in learned)

    base = AutoModelForImageTextToText.from_pretrained(model_folder)
    loaded = {
        "peft": PeftModel.from_pretrained(base, run),
        "transformers": AutoModelForImageTextToText.from_pretrained(run),
    }
    for model in loaded.values():
        found = {name: p for name, p in model.named_parameters() if "lora_B" in name}
        assert len(found) == len(learned)
        total = sum(tensor.double().sum() for tensor in learned)
        assert torch.allclose(sum(p.double().sum() for p in found.values()), total)
