"""The benchmark at a small size."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import score_million  # noqa: E402


@pytest.mark.slow
def test_a_few_rows_are_scored_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = score_million.measure(tmp_path, rows=400, shard_rows=96, runs=1, seed=0)
    assert (report["rows"], report["shards"], report["checked_rows"]) == (400, 5, 400)
    assert 0.2 < report["tacc"]["value"] < 0.6
    assert report["answers"]["empty"] > 0
    assert 0 < report["answers"]["malformed"] < 0.2
    (run,) = report["runs"]
    assert run["wall_seconds"] > 0
    if sys.platform == "linux":  # where alone this is seen
        assert report["peak_bytes"] == sum(run["processes_peak_bytes"]) > 50e6

    # A difference is noticed.
    plain = score_million.score
    monkeypatch.setattr(score_million, "score", lambda pairs: plain(pairs[:-1]))
    with pytest.raises(SystemExit, match=r"not those of metrics\.score"):
        score_million.check(tmp_path, tmp_path / "data", tmp_path / "predictions.jsonl", 400)
