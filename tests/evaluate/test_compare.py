import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.errors import UserError
from star_r1.evaluate.compare import (
    Comparison,
    Estimate,
    compare,
    contrast,
    name_lines,
)
from star_r1.evaluate.paired import Paired, pair_up, read_lines
from star_r1.evaluate.predictions import Completion
from star_r1.evaluate.scoring import score_completions
from star_r1.metrics import ALL_METRICS, GROUPS, METRICS
from star_r1.tvr.sample import Sample

TACC = ALL_METRICS.index("tacc")


def right(sample: Sample) -> str:
    return f"<think></think><answer>{', '.join(map(str, sample.changes))}</answer>"


def wrong(sample: Sample) -> str:
    return "<think></think><answer>none</answer>"


def half(sample: Sample) -> str:
    """Right for the center view alone."""
    return right(sample) if sample.view == "center" else wrong(sample)


def some(sample: Sample) -> str:
    """Right for every third scene."""
    return right(sample) if int(sample.id[:6]) % 3 == 0 else wrong(sample)


def write_run(
    folder: Path, data: Path, *answers: Any, rows: slice = slice(None), n: int | None = None
) -> Path:
    """An evaluation of ``data`` with a completion of each of ``answers`` for each row."""
    asked = list(read_columns(data, SAMPLE_COLUMNS))[rows]
    samples = list(map(row_to_sample, asked))
    said = {
        sample.id: [Completion(sample.id, answer(sample), n) for n, answer in enumerate(answers)]
        for sample in samples
    }
    lines = [one.to_json() + "\n" for own in said.values() for one in own]
    folder.mkdir(parents=True)
    (folder / "predictions.jsonl").write_text("".join(lines))
    (folder / "metrics.json").write_text(json.dumps(score_completions(asked, said)))
    about = {"model": "test", "data": str(data), "n": len(samples), "commit": None}
    (folder / "run.json").write_text(json.dumps(about))
    return folder


@pytest.fixture
def halves(data_folder: Path, tmp_path: Path) -> list[Path]:
    """Two datasets without a scene in common, each of 6 scenes from two views."""
    table = pq.read_table(next((data_folder / "data").iterdir()))
    folders = []
    for name, start in (("one", 0), ("two", 12)):
        (tmp_path / name / "data").mkdir(parents=True)
        file = tmp_path / name / "data" / "train-00000-of-00001.parquet"
        pq.write_table(table.slice(start, 12), file)
        folders.append(tmp_path / name)
    return folders


def estimate(
    found: Comparison, name: str, group: str = "overall", metric: str = "tacc"
) -> Estimate:
    lines = found.differences if name in found.differences else found.values
    return known(lines[name][group][metric])


def known(value: Estimate | None) -> Estimate:
    assert value is not None
    return value


def pretend(lines: dict[str, Sequence[float]], scenes: Sequence[str]) -> Paired:
    """Rows of one view whose TAcc is given; the other metrics leave them out."""
    values = {}
    for name, tacc in lines.items():
        values[name] = np.full((len(tacc), len(ALL_METRICS)), np.nan)
        values[name][:, TACC] = tacc
    scene_keys = np.array([int.from_bytes(scene.encode()) for scene in scenes])
    keys = 1000 * scene_keys + np.arange(len(scenes))
    return Paired(keys, scene_keys, np.array(["center"] * len(scenes)), values)


def contrast_tacc(*paired: Paired, **changed: Any) -> tuple[Estimate, Estimate]:
    """Value and difference of line b."""
    groups = {"overall": ("center",)}
    values, differences = contrast(paired, "a", groups, ["tacc"], **changed)
    return known(values["b"]["overall"]["tacc"]), known(differences["b"]["overall"]["tacc"])


def test_values_are_those_of_the_evaluation(data_folder: Path, tmp_path: Path) -> None:
    runs = {
        "half": [write_run(tmp_path / "half", data_folder, half)],
        "mixed": [write_run(tmp_path / "mixed", data_folder, right, half, wrong)],
    }
    found = compare(runs, groups=list(GROUPS))
    assert found.metrics == METRICS
    for name, (folder,) in runs.items():
        scores = json.loads((folder / "metrics.json").read_text())
        for group in GROUPS:
            for metric in METRICS:
                mine, theirs = found.values[name][group][metric], scores[group][metric]
                if theirs["value"] is None:
                    assert mine is None
                else:
                    assert known(mine).value == pytest.approx(theirs["value"], abs=1e-12)
                    assert known(mine).n == theirs["n"]
    assert known(found.values["mixed"]["overall"]["tacc"]).n == 24  # rows, not completions


def test_other_data_are_noticed_where_no_answer_is_right(
    halves: Sequence[Path], tmp_path: Path
) -> None:
    """TAcc is 0 on both; which attributes change is not the same."""
    run = write_run(tmp_path / "run", halves[0], lambda sample: "")
    one, two = (next((folder / "data").iterdir()) for folder in halves)
    ids = pq.read_table(one)["id"]
    pq.write_table(pq.read_table(two).set_column(0, "id", ids), one)
    with pytest.raises(UserError, match="these are not the data or answers of then"):
        compare({"run": [run]})


def test_a_run_differs_from_itself_by_nothing(data_folder: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data_folder, half)
    found = compare({"run": [run], "copy": [Path(shutil.copytree(run, tmp_path / "copy"))]})
    for metrics in found.differences["copy"].values():
        for value in filter(None, metrics.values()):
            low, high = value.ci95 or (0, 0)
            assert (value.value, -low, value.marked) == (0.0, high, False)
            assert value.p in (None, 1.0)
    assert not any(v.marked for g in found.values["run"].values() for v in g.values() if v)


def test_the_better_run_is_marked(data_folder: Path, tmp_path: Path) -> None:
    found = compare(
        {
            "wrong": [write_run(tmp_path / "wrong", data_folder, wrong)],
            "right": [write_run(tmp_path / "right", data_folder, right)],
            "half": [write_run(tmp_path / "half", data_folder, half)],
        },
        groups=("overall", "id", "ood", "right"),
    )
    marked = {
        (name, group, metric)
        for name, groups in found.values.items()
        for group in ("overall", "id", "ood")
        for metric in ("tacc", "ndiff")
        if known(groups[group][metric]).marked
    }
    assert marked == {
        *(("right", group, metric) for group in ("overall", "ood") for metric in ("tacc", "ndiff")),
        *((name, "id", metric) for name in ("right", "half") for metric in ("tacc", "ndiff")),
    }
    better = estimate(found, "right")
    assert (better.value, better.n, better.marked) == (1.0, 24, True)
    assert better.ci95 == (pytest.approx(1 - 2.201 * 2**0.5 / 12, abs=1e-4), 1.0)
    assert better.p is not None
    assert better.p < 1e-3
    assert estimate(found, "right", metric="ndiff").value < 0
    assert estimate(found, "half", "ood").p == 1.0
    assert found.values["right"]["right"]["tacc"] is None
    assert found.scenes == 12


def test_few_scenes_are_no_evidence() -> None:
    scenes = [f"s{i}" for i in range(9)]
    _, difference = contrast_tacc(pretend({"a": [0] * 9, "b": [1] * 9}, scenes))
    assert (difference.value, difference.marked, difference.p) == (1.0, False, None)
    _, difference = contrast_tacc(pretend({"a": [0] * 10, "b": [1] * 10}, [*scenes, "s9"]))
    assert difference.marked


def test_a_bootstrap_agrees() -> None:
    """Scenes with all their rows, drawn with replacement: where they are many, it says the same."""
    random = np.random.default_rng(3)
    scenes = [f"{i:03}" for i in range(400) for _ in range(1 + i % 3)]
    hard = random.random(400)[[int(scene) for scene in scenes]]
    a = (random.random(len(scenes)) > hard).astype(float)
    b = (random.random(len(scenes)) * 1.2 > hard).astype(float)
    a[5], b[5] = math.nan, math.nan
    value, difference = contrast_tacc(pretend({"a": a, "b": b}, scenes))

    codes = np.array([int(scene) for scene in scenes])
    there = ~np.isnan(a)
    rows, of_a, of_b = (
        np.bincount(codes[there], weights=x[there], minlength=400) for x in (a**0, a, b)
    )
    draws = random.integers(400, size=(4000, 400))
    counts = rows[draws].sum(axis=1)
    means = of_b[draws].sum(axis=1) / counts
    differences = (of_b - of_a)[draws].sum(axis=1) / counts
    assert value.ci95 == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=0.006)
    interval = tuple(np.percentile(differences, (2.5, 97.5)))
    assert difference.ci95 == pytest.approx(interval, abs=0.006)
    assert difference.marked
    assert interval[0] > 0


def test_a_gain_is_seen_where_the_intervals_overlap() -> None:
    """What makes a scene hard for both lines cancels in their paired difference."""
    random = np.random.default_rng(0)
    a = np.repeat(random.random(100) < 0.4, 3).astype(float)
    b = np.maximum(a, np.repeat(random.random(100) < 0.12, 3))
    scenes = [f"{i:03}" for i in range(100) for _ in range(3)]
    groups = {"overall": ("center",)}
    values, differences = contrast([pretend({"a": a, "b": b}, scenes)], "a", groups, ["tacc"])
    low, high = (known(values[name]["overall"]["tacc"]).ci95 or (0, 0) for name in "ab")
    assert low[1] > high[0]
    assert known(differences["b"]["overall"]["tacc"]).marked


def test_views_of_a_scene_count_as_one() -> None:
    """Three views that always agree are worth one row: the interval is as wide as without them."""
    tacc = np.random.default_rng(0).integers(0, 2, 100).astype(float)
    zeros = np.zeros(100)
    scenes = [f"s{i}" for i in range(100)]
    once, _ = contrast_tacc(pretend({"a": zeros, "b": tacc}, scenes))
    repeated = pretend(
        {"a": np.repeat(zeros, 3), "b": np.repeat(tacc, 3)}, list(np.repeat(scenes, 3))
    )
    thrice, _ = contrast_tacc(repeated)
    assert thrice.ci95 == pytest.approx(once.ci95, abs=1e-12)
    assert thrice.n == 300


RESULTS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30
)


@given(RESULTS)
def test_exchanged_lines_have_the_opposite_difference(rows: Any) -> None:
    scenes = [f"s{scene}" for scene, _, _ in rows]
    a, b = [row[1] for row in rows], [row[2] for row in rows]
    there, forth = contrast_tacc(pretend({"a": a, "b": b}, scenes))
    _, back = contrast_tacc(pretend({"a": b, "b": a}, scenes))
    assert forth.value == pytest.approx(np.mean(b) - np.mean(a))
    assert (forth.value, forth.p, forth.marked) == (-back.value, back.p, back.marked)
    if forth.ci95 is None or back.ci95 is None:
        assert forth.ci95 is back.ci95 is None
    else:
        assert forth.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]), abs=1e-11)
        assert -1 <= forth.ci95[0] <= forth.value <= forth.ci95[1] <= 1
        assert forth.p is None or (forth.p < 0.05) == (not forth.ci95[0] <= 0 <= forth.ci95[1])
    assert there.value == pytest.approx(np.mean(b))
    assert there.ci95 is not None
    assert 0 <= there.ci95[0] <= there.value <= there.ci95[1] <= 1


def test_seeds_on_one_test_set(data_folder: Path, tmp_path: Path) -> None:
    star = [
        write_run(tmp_path / f"star-{i}", data_folder, *answers)
        for i, answers in enumerate([(right,), (half,), (right, half)])
    ]
    base = write_run(tmp_path / "base", data_folder, wrong)
    found = compare({"base": [base], "star": star})
    value, difference = known(found.values["star"]["overall"]["tacc"]), estimate(found, "star")
    assert value.by_seed == difference.by_seed == (1.0, 0.5, 0.75)
    assert value.value == difference.value == pytest.approx(0.75)
    assert value.spread == (0.5, 1.0)
    assert value.t95 == pytest.approx((0.75 - 0.6211, 0.75 + 0.6211), abs=1e-4)
    assert value.n == 24
    assert known(found.values["base"]["overall"]["tacc"]).by_seed == (0.0,)
    with_other = compare({"base": [base], "star": star, "half": star[1:2]})
    assert estimate(with_other, "half").by_seed == (0.5,)


def test_seeds_on_test_sets_of_their_own(halves: Sequence[Path], tmp_path: Path) -> None:
    lines = {
        name: [write_run(tmp_path / f"{name}-{i}", data, how) for i, data in enumerate(halves)]
        for name, how in (("base", half), ("star", right))
    }
    found = compare(lines)
    value = known(found.values["base"]["overall"]["tacc"])
    assert (value.n, found.scenes, value.by_seed) == (24, 12, (0.5, 0.5))
    assert (value.spread, value.t95) == ((0.5, 0.5), None)
    low, high = estimate(found, "star").ci95 or (0, 0)
    assert low < estimate(found, "star").value == 0.5 < high
    # In another order the k-th runs are over different rows.
    with pytest.raises(UserError, match="0 in common; evaluate both on the same data"):
        compare(lines | {"star": lines["star"][::-1]})


def test_a_seed_without_such_rows_does_not_count() -> None:
    scenes = [f"s{i}" for i in range(12)]
    full = pretend({"a": [0] * 12, "b": [1] * 12}, scenes)
    none = pretend({"a": [math.nan] * 12, "b": [math.nan] * 12}, [f"t{i}" for i in range(12)])
    value, difference = contrast_tacc(full, none)
    assert (value.value, value.n, value.by_seed) == (1.0, 12, (1.0,))
    assert difference.by_seed == (1.0,)


def test_the_number_of_seeds_must_agree(data_folder: Path, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(i), data_folder, half) for i in range(5)]
    with pytest.raises(UserError, match="a has 2 runs and b 3"):
        compare({"a": runs[:2], "b": runs[2:]})


def test_runs_over_different_rows(data_folder: Path, tmp_path: Path) -> None:
    lines = {
        "all": [write_run(tmp_path / "all", data_folder, half)],
        "some": [write_run(tmp_path / "some", data_folder, right, rows=slice(4, 10))],
    }
    with pytest.raises(
        UserError, match=r"all \(24 rows\) and .*some \(6 rows\).* 6 in common; --com"
    ):
        compare(lines)
    found = compare(lines, common=True)
    assert known(found.values["all"]["overall"]["tacc"]).n == 6
    assert estimate(found, "some", "ood").value == 1.0
    lines["rest"] = [write_run(tmp_path / "rest", data_folder, right, rows=slice(10, 20))]
    with pytest.raises(UserError, match="no row is in all of the runs"):
        compare(lines, common=True)


def test_the_order_of_answers_does_not_matter(data_folder: Path, tmp_path: Path) -> None:
    runs = {name: [write_run(tmp_path / name, data_folder, some)] for name in ("a", "b")}
    file = tmp_path / "b" / "predictions.jsonl"
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    low, high = estimate(compare(runs), "b").ci95 or (0, 0)
    assert 0 < high == -low


def test_the_same_data_elsewhere_are_the_same_rows(data_folder: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(data_folder, tmp_path / "elsewhere"))
    runs = {
        "here": [write_run(tmp_path / "a", data_folder, half)],
        "there": [write_run(tmp_path / "b", elsewhere, right)],
    }
    assert estimate(compare(runs), "there").n == 24


def test_other_data_with_the_same_ids_are_other_rows(
    halves: Sequence[Path], tmp_path: Path
) -> None:
    one, two = (next((folder / "data").iterdir()) for folder in halves)
    ids = pq.read_table(one)["id"]
    pq.write_table(pq.read_table(two).set_column(0, "id", ids), two)
    runs = [[write_run(tmp_path / f"run-{i}", data, half)] for i, data in enumerate(halves)]
    with pytest.raises(UserError, match="0 in common; evaluate both on the same data"):
        compare({"a": runs[0], "b": runs[1]})


def test_position_is_there_where_objects_move(moves_folder: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", moves_folder, right)
    found = compare({"run": [run]}, groups=("overall", "top"))
    assert found.metrics == ALL_METRICS
    assert known(found.values["run"]["top"]["position"]).value == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"against": "nobody"}, "--against nobody: give one of run"),
        ({"groups": ("overall", "behind")}, "--groups behind: give one of overall, center"),
        ({"metrics": ("accuracy",)}, "--metrics accuracy: give one of tacc"),
    ],
)
def test_unknown_names(
    data_folder: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    run = write_run(tmp_path / "run", data_folder, half)
    with pytest.raises(UserError, match=message):
        compare({"run": [run]}, **arguments)


def test_groups_and_metrics_can_be_chosen(data_folder: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data_folder, half)
    found = compare({"run": [run]}, groups=["left", "id", "left"], metrics=["ndiff", "tacc"])
    assert (found.groups, found.metrics) == (("left", "id"), ("ndiff", "tacc"))
    assert {group: list(metrics) for group, metrics in found.values["run"].items()} == {
        "left": ["ndiff", "tacc"],
        "id": ["ndiff", "tacc"],
    }


def _unfinish(run: Path) -> None:
    (run / "metrics.json").unlink()


def _empty(run: Path) -> None:
    for file in run.iterdir():
        file.unlink()


def _lose_a_row(run: Path) -> None:
    lines = (run / "predictions.jsonl").read_text().splitlines(keepends=True)
    (run / "predictions.jsonl").write_text("".join(lines[1:]))


def _edit(run: Path, name: str, old: str, new: str) -> None:
    text = (run / name).read_text()
    assert old in text
    (run / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no such run folder"),
        (_empty, "no metrics.json in it; give the --out of"),
        (_unfinish, "an unfinished evaluation; run its"),
        (_lose_a_row, "23 of 24 rows answered; run its"),
        (lambda run: (run / "metrics.json").write_text("{"), "not JSON"),
        (lambda run: (run / "run.json").write_text("[]"), "damaged"),
        (
            lambda run: (run / "predictions.jsonl").write_text("{\n"),
            r"predictions\.jsonl:1: not JSON",
        ),
        (lambda run: (run / "predictions.jsonl").unlink(), "give a predictions file"),
        (
            lambda run: _edit(run, "run.json", '"data": "', '"data": "gone'),
            "its data cannot be read",
        ),
        (
            lambda run: (run / "metrics.json").write_text(
                (run.parent / "other" / "metrics.json").read_text()
            ),
            r"tacc \(overall\) is 0\.5000 over 24 rows, metrics\.json says 1\.0000 over 24; these",
        ),
    ],
)
def test_damaged_runs(data_folder: Path, tmp_path: Path, damage: Any, message: str) -> None:
    write_run(tmp_path / "other", data_folder, right)
    run = write_run(tmp_path / "run", data_folder, half)
    damage(run)
    with pytest.raises(UserError, match=message) as error:
        compare({"run": [run]})
    assert "\n" not in str(error.value)


def test_names_of_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a/base", "b/base", "a/lr=1", "star"):
        Path(folder).mkdir(parents=True)
    assert name_lines(["a/base", "b/base", "a/lr=1", "star/", "x=star,a/base"]) == {
        "a/base": (Path("a/base"),),
        "b/base": (Path("b/base"),),
        "lr=1": (Path("a/lr=1"),),
        "star": (Path("star"),),
        "x": (Path("star"), Path("a/base")),
    }
    for arguments, message in (
        (["nowhere"], "nowhere: no such run folder; give RUN or NAME=RUN,RUN"),
        (["=star"], "=star: no such run folder"),
        (["x=,"], "x=,: no such run folder"),
        (["star", "star=a/base"], "two lines are called 'star'"),
        (["star", "star"], "two lines are called 'star'"),
    ):
        with pytest.raises(UserError, match=message):
            name_lines(arguments)


def test_a_folder_named_twice_is_read_once(data_folder: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data_folder, half)
    read = read_lines({"a": [run, run], "b": [run]})
    assert read["a"][0] is read["a"][1] is read["b"][0]
    assert len(pair_up(read)) == 2


def test_data_of_several_runs_are_read_once(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {name: [write_run(tmp_path / name, data_folder, half)] for name in "abc"}
    opened: list[Path] = []

    def read(folder: Path, columns: Sequence[str]) -> Any:
        opened.append(folder)
        return read_columns(folder, columns)

    monkeypatch.setattr("star_r1.data.dataset.read_columns", read)
    read_lines(runs)
    assert opened == [data_folder, data_folder]  # once for the ids, once for the rows
