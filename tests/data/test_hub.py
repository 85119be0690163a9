from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from star_r1.data.hub import create, push
from star_r1.errors import UserError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the Hub would have been asked for."""
    seen: dict[str, Any] = {}

    def create_repo(_: Any, repo: str, **options: Any) -> None:
        seen["create"] = (repo, options)

    def upload_folder(_: Any, **options: Any) -> Any:
        seen["upload"] = options
        return SimpleNamespace(commit_url="https://hub/commit")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    return seen


def test_a_new_repository_is_private(calls: dict[str, Any]) -> None:
    create("me/pairs")
    name, options = calls["create"]
    assert (name, options["repo_type"], options["private"]) == ("me/pairs", "dataset", True)


def test_what_the_manifest_names_is_uploaded(calls: dict[str, Any], rendered: Path) -> None:
    assert push(rendered, "me/pairs") == "https://hub/commit"
    there = {path.relative_to(rendered).as_posix() for path in rendered.rglob("*.*")}
    assert set(calls["upload"]["allow_patterns"]) == there
    assert calls["upload"]["folder_path"] == rendered


@pytest.mark.parametrize("name", ["a/b/c", "me/pairs"])
def test_a_failure_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not allowed, and a Hub that is not there."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        create(name)
    assert str(error.value).startswith(f"--push-to-hub {name}: ")
    assert "\n" not in str(error.value)
