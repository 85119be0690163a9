"""Runs over the shared datasets, good and hostile, and the pages about them."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.evaluate.scoring import score_file
from star_r1.explore.page import write_explorer
from star_r1.tvr.change import Change, format_changes
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import STANDARD_RIG, UNKNOWN_RIG, Object, Rig, Scene
from star_r1.tvr.vocabulary import Vocabulary, camera_position

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    "<!-- \0 \ud800 \u2028 \u202e `${window.hacked = 3}` \\"
)

Samples = Callable[[Path], list[Sample]]


@pytest.fixture(scope="session")
def samples() -> Samples:
    return lambda folder: list(map(row_to_sample, read_columns(folder, SAMPLE_COLUMNS)))


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """What 'star-r1 evaluate' leaves: run.json, metrics.json, and these lines of predictions."""

    def write(folder: Path, data: Path, lines: Iterable[Mapping[str, Any]], **about: Any) -> Path:
        folder.mkdir(parents=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "predictions.jsonl").write_text(text)
        scores = score_file(data, folder / "predictions.jsonl", unanswered="leave-out")
        (folder / "metrics.json").write_text(json.dumps(scores))
        run = {"model": "a model", "data": str(data), "n": scores["overall"]["tacc"]["n"]}
        run |= {"identity": {"rows": "0123"}, **about}
        (folder / "run.json").write_text(json.dumps(run))
        return folder

    return write


def said(answer: str, reasoning: str = "") -> str:
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


@pytest.fixture(scope="session")
def runs(
    data_folder: Path,
    samples: Samples,
    write_run: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """One that is right on every third row, and one that is right on every second row, which has
    three completions of each, the first of which counts."""
    root = tmp_path_factory.mktemp("runs")
    base, trained = [], []
    for n, sample in enumerate(samples(data_folder)):
        truth = format_changes(sample.changes)
        first = sample.changes[0]
        thing = sample.initial.visible[0]
        wrong = f"{first.index}.{first.attribute}.nonsense, 7.color.red"
        reasoning = f"{thing.index}: {thing.describe()} now\nobject {first.index} changed"
        base.append(
            {"id": sample.id, "completion": said(truth if n % 3 == 0 else wrong, reasoning)}
        )
        for number in range(3):
            right = (n + number) % 2 == 0
            text = said(truth if right else "none", f"see object {first.index}, try {number}")
            trained.append({"id": sample.id, "completion": text, "number": number})
    return (
        write_run(root / "base", data_folder, base),
        write_run(root / "trained", data_folder, trained),
    )


@pytest.fixture(scope="session")
def hostile_run(
    data_folder: Path,
    samples: Samples,
    write_run: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Completions that try to break the page, one a row, and some rows that were not asked."""
    first = samples(data_folder)[0].initial.visible[0].index
    texts = [
        HOSTILE,
        said(f"2.color.{HOSTILE}", HOSTILE),
        said(", ".join(["2.color.cyan"] * 100_000)),
        said("none", f"object {first} " * 200_000),
        "<" * 1_000_000,
        "",
    ]
    lines = [
        {
            "id": sample.id,
            "completion": text,
            "status": "failed" if not text else "answered",
            "error": HOSTILE if not text else "",
        }
        for sample, text in zip(samples(data_folder), texts, strict=False)
    ]
    return write_run(tmp_path_factory.mktemp("hostile") / "hostile", data_folder, lines)


@pytest.fixture(scope="session")
def unknown_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two imported samples of which nobody knows where anything stands."""
    things = [Object(i, "red", "cube", "small", "metal", (0, i)) for i in range(2)]
    things += [Object(i, "red", "cube", "small", "metal", (40, i)) for i in range(2, 10)]
    truth = (Change(1, "color", "blue"),)
    rows = [
        Sample(f"{n:06d}-center", Scene(tuple(things)), truth, "center", UNKNOWN_RIG)
        for n in range(2)
    ]
    return write_data(tmp_path_factory.mktemp("unknown"), rows)


@pytest.fixture(scope="session")
def custom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scene in colors of its own, from views that TRANCE does not have."""
    words = Vocabulary(colors={"pink": (255, 180, 200), "mint-green": (170, 240, 200)})
    things = [Object(i, "pink", "cube", "large", "metal", (0, 16 * i - 8)) for i in range(2)]
    things += [Object(i, "pink", "cube", "small", "metal", (40, i)) for i in range(2, 10)]
    views = {view: camera_position(view) for view in ("top", "az90")}
    rig = Rig({**STANDARD_RIG.cameras, **views}, STANDARD_RIG.lamps)
    truth = (Change(0, "color", "mint-green"),)
    sample = Sample("000000-top", Scene(tuple(things), words), truth, "top", rig)
    return write_data(tmp_path_factory.mktemp("custom"), [sample, sample.seen_from("az90")])


@pytest.fixture(scope="session")
def covered_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scene in which object 0 hides object 1 from the center, but not from the left."""
    things = [Object(0, "red", "cube", "large", "metal", (8, 0))]
    things += [Object(1, "blue", "sphere", "small", "rubber", (0, 0))]
    things += [Object(i, "red", "cube", "small", "metal", (40, i)) for i in range(2, 10)]
    truth = (Change(0, "color", "blue"),)
    sample = Sample("000000-left", Scene(tuple(things)), truth, "left", STANDARD_RIG)
    return write_data(tmp_path_factory.mktemp("covered"), [sample])


def write_data(folder: Path, rows: Iterable[Sample]) -> Path:
    from star_r1.data.shards import encode_png, make_row, to_parquet

    grey = encode_png(np.full((60, 80, 3), 128, np.uint8))
    content = to_parquet([make_row(sample, (grey, grey), {}) for sample in rows])
    (folder / "data").mkdir()
    (folder / "data" / "test-00000-of-00001.parquet").write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def pages(
    data_folder: Path,
    moves_folder: Path,
    unknown_folder: Path,
    custom_folder: Path,
    covered_folder: Path,
    runs: tuple[Path, Path],
    hostile_run: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """The page about something, by its name; each is written once."""
    root = tmp_path_factory.mktemp("pages")
    sources: dict[str, list[Path]] = {
        "data": [data_folder],
        "moves": [moves_folder],
        "unknown": [unknown_folder],
        "custom": [custom_folder],
        "covered": [covered_folder],
        "one": [runs[0]],
        "two": [*runs],
        "hostile": [hostile_run],
    }

    def page(name: str) -> Path:
        if not (root / name).exists():
            write_explorer(sources[name], root / name)
        return root / name

    return page
