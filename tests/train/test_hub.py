"""The upload: once, at the end, with our card and nothing of this machine."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from star_r1.errors import UserError
from star_r1.train import sft
from star_r1.train.hub import create


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the Hub would have been asked for, in order."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def create_repo(_: Any, repo: str, **options: Any) -> Any:
        seen.append(("create", {"repo": repo, **options}))
        return SimpleNamespace(repo_id=f"me/{repo}")

    def upload_folder(_: Any, **options: Any) -> Any:
        card = (options["folder_path"] / "README.md").read_text()
        seen.append(("upload", {**options, "card": card}))
        return SimpleNamespace(commit_url="https://hub/commit")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    return seen


@pytest.fixture
def train(model_folder: Path, data_folder: Path, tmp_path: Path) -> Callable[..., int]:
    def train(*flags: str) -> int:
        folders = ["--model", model_folder, "--data", data_folder, "--output_dir", tmp_path / "run"]
        size = ["--use_cpu", "--report_to", "none", "--max_steps", "2"]
        return sft.main([*map(str, folders), *size, *flags])

    return train


def test_one_upload_at_the_end(
    calls: list[Any], train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train() == 0
    assert calls == []
    assert train("--push_to_hub") == 0  # of the run that has ended
    (create, made), (upload, sent) = calls
    assert (create, upload) == ("create", "upload")
    assert made == {"repo": "run", "private": True, "exist_ok": True}
    assert sent["repo_id"] == "me/run"
    assert {"README.md", "config.json", "model.safetensors"} <= set(sent["allow_patterns"])
    assert not [name for name in sent["allow_patterns"] if name.endswith((".bin", ".jsonl"))]
    assert "training.json" not in sent["allow_patterns"]
    assert "STAR-SFT" in sent["card"]
    assert "uploaded: https://hub/commit" in capsys.readouterr().err


def test_name_and_privacy_are_flags(calls: list[Any], tmp_path: Path) -> None:
    named = {"hub_model_id": "star", "hub_private_repo": False, "hub_token": None}
    assert create(SimpleNamespace(output_dir=str(tmp_path), **named)) == "me/star"
    assert calls == [("create", {"repo": "star", "private": False, "exist_ok": True})]


def test_an_adapter_of_a_local_base_cannot_be_shared(
    calls: list[Any], train: Callable[..., int]
) -> None:
    with pytest.raises(UserError, match="a LoRA adapter names its base"):
        train("--push_to_hub", "--use_peft")


def test_a_hub_that_is_not_there_is_noticed_before_the_training(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        train("--push_to_hub")
    assert str(error.value).startswith("--push-to-hub run: ")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "run").glob("checkpoint-*"))
