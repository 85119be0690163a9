import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_r1.data.dataset import read_columns, row_to_sample
from star_r1.data.shards import encode_png, make_row
from star_r1.errors import UserError
from star_r1.explore.collect import LONGEST_TEXT, MOST_ITEMS, Row, open_source, rows
from star_r1.explore.collect import make_row as to_page
from star_r1.reward.star import star
from star_r1.tvr.answer import parse_answer
from star_r1.tvr.sample import Sample


def all_rows(*paths: Path) -> list[Row]:
    return list(rows(open_source(paths)))


def text_of(said: dict[str, Any]) -> str:
    return "".join(p if isinstance(p, str) else p[1] for part in said["text"] for p in part)


def test_a_dataset_alone_has_all_rows_and_no_runs(
    data_folder: Path, samples: Callable[[Path], list[Sample]]
) -> None:
    found = all_rows(data_folder)
    truth = samples(data_folder)
    assert [row.brief["id"] for row in found] == [sample.id for sample in truth]
    for row, sample in zip(found, truth, strict=True):
        assert row.full["runs"] == row.brief["runs"] == []
        assert row.brief["population"] == len(sample.initial.visible)
        assert [change["text"] for change in row.full["changes"]] == list(map(str, sample.changes))
        for index, thing in enumerate(row.full["objects"]):
            end = sample.final.objects[index]
            assert thing["after"] == [end.color, end.shape, end.size, end.material]


def test_completions_are_scored_as_the_reward_scores_them(
    runs: tuple[Path, Path], samples: Callable[[Path], list[Sample]], data_folder: Path
) -> None:
    found = all_rows(*runs)
    for n, (row, sample) in enumerate(zip(found, samples(data_folder), strict=True)):
        base, trained = row.full["runs"]
        assert [len(base), len(trained)] == [1, 3]
        assert base[0]["outcome"] == ("right" if n % 3 == 0 else "wrong")
        assert [said["outcome"] for said in trained] == [
            "right" if (n + k) % 2 == 0 else "wrong" for k in range(3)
        ]
        assert row.brief["runs"][1]["right"] == 2 - n % 2
        for said in (*base, *trained):
            reward = star(parse_answer(text_of(said)), sample.changes)
            assert said["terms"]["total"] == reward.total
            assert [item["fate"] for item in said["items"]] == list(reward.fates)


def test_reasoning_is_linked_to_listed_objects(runs: tuple[Path, Path]) -> None:
    row = all_rows(runs[0])[1]
    first = row.full["runs"][0][0]["text"][0]
    listed = [i for i, thing in enumerate(row.full["objects"]) if thing["visible"][0]]
    linked = [piece[0] for piece in first if not isinstance(piece, str)]
    assert linked
    assert set(linked) <= set(listed)


def test_the_initial_picture_of_all_views_is_one_file(data_folder: Path) -> None:
    row = next(read_columns(data_folder, ["id", "images", "view", "initial", "changes", "rig",
                                          "vocabulary"]))  # fmt: skip
    sample = row_to_sample(row)
    one, other = (to_page(row, seen, ()) for seen in (sample, sample.seen_from("left")))
    assert one.pictures[0] == other.pictures[0]
    assert one.pictures[0].content == row["images"][0]["bytes"]


def test_hostile_completions_are_shortened_and_counted_in_full(hostile_run: Path) -> None:
    found = all_rows(hostile_run)
    assert len(found) == 6  # the rows that were asked
    said = [row.full["runs"][0][0] for row in found]
    assert len(said[2]["items"]) == MOST_ITEMS
    assert said[2]["more"] == 100_000 - MOST_ITEMS
    assert said[2]["terms"]["wrong"] < -90_000
    assert len(text_of(said[4])) == LONGEST_TEXT
    assert said[4]["left_out"] == 1_000_000 - LONGEST_TEXT
    assert said[5]["status"] == "failed"
    assert max(len(json.dumps(row.full)) for row in found) < 400_000


def test_where_nobody_knows_where_anything_stands_there_are_no_outlines(
    unknown_folder: Path,
) -> None:
    for picture in all_rows(unknown_folder)[0].full["pictures"]:
        assert picture["outlines"] is None
        assert picture["labels"] is None


def test_moves_colors_and_views_of_other_data(moves_folder: Path, custom_folder: Path) -> None:
    moved = all_rows(moves_folder)
    assert {row.brief["view"] for row in moved} == {"center", "top"}
    assert moved[0].brief["moves"]
    assert moved[0].full["objects"][0]["places"] == [(0, -8), (-10, -8)]
    assert "front-left.2" in moved[0].full["vocabulary"]["grammar"]["position"]
    custom = all_rows(custom_folder)
    assert [row.brief["view"] for row in custom] == ["top", "az90"]
    assert custom[0].full["vocabulary"]["colors"]["pink"] == [255, 180, 200]


def test_pictures_that_programs_show_differently_become_plain_ones(
    data_folder: Path, samples: Callable[[Path], list[Sample]]
) -> None:
    from io import BytesIO

    from PIL import Image

    turned, exif = BytesIO(), Image.Exif()
    exif[0x0112] = 6  # as a camera held upright writes it
    Image.new("RGB", (8, 6)).save(turned, "JPEG", exif=exif)
    grey = encode_png(np.zeros((6, 8), np.uint8))
    sample = samples(data_folder)[0]
    row = to_page(make_row(sample, (turned.getvalue(), grey), {}), sample, ())
    assert [picture.name.rpartition(".")[2] for picture in row.pictures] == ["png", "png"]
    assert [picture.size for picture in row.pictures] == [(6, 8), (8, 6)]
    for picture in row.pictures:
        with Image.open(BytesIO(picture.content)) as shown:
            assert (shown.size, shown.mode) == (picture.size, "RGB")


def broken_picture(root: Path, data: Path, run: Path) -> list[Path]:
    from star_r1.data.dataset import SAMPLE_COLUMNS, row_to_sample
    from star_r1.data.shards import to_parquet

    sample = row_to_sample(next(read_columns(data, SAMPLE_COLUMNS)))
    (root / "data").mkdir(parents=True)
    content = to_parquet([make_row(sample, (b"no picture", b""), {})])
    (root / "data" / "train-00000-of-00001.parquet").write_bytes(content)
    return [root]


def other_data(root: Path, data: Path, run: Path) -> list[Path]:
    copy = shutil.copytree(run, root / "copy")
    about = {**json.loads((copy / "run.json").read_text()), "data": str(root / "elsewhere")}
    about["identity"] = {"rows": "9999"}
    (copy / "run.json").write_text(json.dumps(about))
    return [run, copy]


def unknown_id(root: Path, data: Path, run: Path) -> list[Path]:
    copy = shutil.copytree(run, root / "copy")
    (copy / "predictions.jsonl").write_text('{"id": "nobody", "completion": ""}\n')
    return [copy]


def moved_data(root: Path, data: Path, run: Path) -> list[Path]:
    copy = shutil.copytree(run, root / "copy")
    about = {**json.loads((copy / "run.json").read_text()), "data": str(root / "elsewhere")}
    (copy / "run.json").write_text(json.dumps(about))
    return [copy]


def unfinished(root: Path, data: Path, run: Path) -> list[Path]:
    copy = shutil.copytree(run, root / "copy")
    (copy / "metrics.json").unlink()
    return [copy]


def nothing_said(root: Path, data: Path, run: Path) -> list[Path]:
    copy = shutil.copytree(run, root / "copy")
    (copy / "predictions.jsonl").write_text("")
    return [copy]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root, data, run: [], "nothing to explore"),
        (lambda root, data, run: [root / "nowhere"], "no such folder"),
        (lambda root, data, run: [data, run], "no run.json in it; give runs"),
        (lambda root, data, run: [data, data], "no run.json in it; give runs"),
        (broken_picture, "row '000000-center': its initial picture is"),
        (other_data, "were evaluated on different data"),
        (unknown_id, "id 'nobody' is not in the data"),
        (nothing_said, "0 of 24 rows answered"),
        (moved_data, "root/copy: its data cannot be read: "),
        (unfinished, "an unfinished evaluation; run its 'star-r1 evaluate' command again"),
        (lambda root, data, run: [run, run / ".." / run.name], "a run is named twice"),
    ],
)
def test_a_mistake_is_one_line(
    make: Callable[[Path, Path, Path], list[Path]],
    message: str,
    tmp_path: Path,
    data_folder: Path,
    runs: tuple[Path, Path],
) -> None:
    with pytest.raises(UserError) as caught:
        all_rows(*make(tmp_path / "root", data_folder, runs[0]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_copied_dataset_is_known_by_its_rows(tmp_path: Path, runs: tuple[Path, Path]) -> None:
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    about = {**json.loads((copy / "run.json").read_text()), "data": str(tmp_path / "elsewhere")}
    (copy / "run.json").write_text(json.dumps(about))
    for both in ([runs[0], copy], [copy, runs[0]]):
        source = open_source(both)
        assert len(source.runs) == 2
        assert source.data.is_dir()
