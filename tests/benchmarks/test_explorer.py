"""The benchmark of the explorer, on a few samples."""

import json
import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import explorer  # noqa: E402

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (shutil.which("chromium") or shutil.which("chromium-browser")),
        reason="Chromium is not installed",
    ),
]


def test_it_opens_filters_and_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["explorer.py", "--samples", "220", "--opens", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    explorer.main()
    report = json.loads((tmp_path / "explorer.json").read_text())
    assert report["samples"] == 220
    assert report["open_ms"]["interactive"]["n"] == 2
    assert report["open_ms"]["interactive"]["most"] > 0
    assert report["filter_ms"]["work"]["n"] > 50
    assert report["step_ms"]["n"] == 150
