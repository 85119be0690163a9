import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from star_r1.errors import UserError
from star_r1.explore import page as page_module
from star_r1.explore.page import ASSETS, write_explorer


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def call(path: Path, function: str) -> Any:
    """The arguments of the one call that a data file is."""
    text = path.read_bytes().decode("ascii")
    head, tail = f"StarR1.{function}(", ");\n"
    assert text.startswith(head)
    assert text.endswith(tail)
    assert "<" not in text
    return json.loads(f"[{text[len(head) : -len(tail)]}]")


def test_the_folder_holds_the_page_the_data_and_the_pictures(pages: Callable[[str], Path]) -> None:
    folder = pages("two")
    (index,) = call(folder / "data" / "index.js", "begin")
    number, rows = call(folder / "data" / "rows-000.js", "receive")
    assert number == 0
    assert [row["id"] for row in rows] == index["ids"]
    assert [run["name"] for run in index["runs"]] == ["base", "trained"]
    pictures = {picture["file"] for row in rows for picture in row["pictures"]}
    found = files(folder)
    assert set(found) == {*ASSETS, "data/index.js", "data/rows-000.js", *pictures}
    html = found["index.html"].decode()
    assert all(f'"{name}"' in html for name in ASSETS if name != "index.html")


def test_nothing_in_the_page_asks_a_network(pages: Callable[[str], Path]) -> None:
    for name, content in files(pages("two")).items():
        if name in ASSETS:
            rest = content.replace(b"http://www.w3.org/2000/svg", b"")  # the name of SVG
            assert b"http:" not in rest
            assert b"https:" not in rest
            assert b"innerHTML" not in rest
            assert b"eval(" not in rest


def test_hostile_text_is_data(pages: Callable[[str], Path]) -> None:
    _, rows = call(pages("hostile") / "data" / "rows-000.js", "receive")
    assert "</script>" in json.dumps(rows)


def test_the_same_data_give_the_same_bytes(
    pages: Callable[[str], Path], runs: tuple[Path, Path], tmp_path: Path
) -> None:
    write_explorer(runs, tmp_path / "again")
    assert files(tmp_path / "again") == files(pages("two"))


def test_chunks_hold_all_rows_once(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "CHUNK", 7)
    write_explorer([data_folder], tmp_path / "page")
    (index,) = call(tmp_path / "page" / "data" / "index.js", "begin")
    ids = []
    for number in range(4):
        place, rows = call(tmp_path / "page" / "data" / f"rows-{number:03d}.js", "receive")
        assert place == number
        ids += [row["id"] for row in rows]
    assert index["chunk"] == 7
    assert ids == index["ids"]


def test_an_interrupted_one_has_no_index_and_goes_on(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "page"
    with monkeypatch.context() as patch:
        patch.setattr(page_module, "_write_chunk", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_explorer([data_folder], folder)
    assert not (folder / "data" / "index.js").exists()
    times = {path: path.stat().st_mtime_ns for path in (folder / "images").iterdir()}
    assert times
    write_explorer([data_folder], folder)
    assert (folder / "data" / "index.js").exists()
    assert {path: path.stat().st_mtime_ns for path in (folder / "images").iterdir()} == times


def test_written_again_it_keeps_nothing_of_the_former(
    data_folder: Path, custom_folder: Path, pages: Callable[[str], Path], tmp_path: Path
) -> None:
    write_explorer([data_folder], tmp_path / "page")
    (tmp_path / "page" / "data" / "rows-001.js").write_text("old")
    write_explorer([custom_folder], tmp_path / "page")
    assert files(tmp_path / "page") == files(pages("custom"))


@pytest.mark.parametrize("what", ["a file", "a folder of someone else", "in a file"])
def test_another_folder_is_not_touched(what: str, data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "index.html").write_text("mine")
    out = {
        "a file": tmp_path / "notes" / "index.html",
        "a folder of someone else": tmp_path / "notes",
        "in a file": tmp_path / "notes" / "index.html" / "page",
    }[what]
    with pytest.raises(UserError, match="choose another folder"):
        write_explorer([data_folder], out)
    assert files(tmp_path) == {"notes/index.html": b"mine"}


def test_runs_of_one_name_are_told_apart_and_their_folders_kept_private(
    data_folder: Path, write_run: Callable[..., Path], tmp_path: Path, runs: tuple[Path, Path]
) -> None:
    lines = [json.loads(line) for line in (runs[0] / "predictions.jsonl").open()]
    two = [
        write_run(tmp_path / seed / "eval", data_folder, lines, model=f"{tmp_path}/{seed}/grpo")
        for seed in ("seed-0", "seed-1")
    ]
    write_explorer(two, tmp_path / "page")
    (index,) = call(tmp_path / "page" / "data" / "index.js", "begin")
    assert [run["name"] for run in index["runs"]] == ["seed-0/eval", "seed-1/eval"]
    assert [run["model"] for run in index["runs"]] == ["grpo", "grpo"]
    assert str(tmp_path).encode() not in b"".join(files(tmp_path / "page").values())


def test_a_longer_part_of_the_path_where_folders_of_folders_share_a_name(
    data_folder: Path, write_run: Callable[..., Path], tmp_path: Path, runs: tuple[Path, Path]
) -> None:
    lines = [json.loads(line) for line in (runs[0] / "predictions.jsonl").open()]
    two = [write_run(tmp_path / name / "answers" / "base", data_folder, lines) for name in "ab"]
    write_explorer(two, tmp_path / "page")
    (index,) = call(tmp_path / "page" / "data" / "index.js", "begin")
    assert [run["name"] for run in index["runs"]] == ["a/answers/base", "b/answers/base"]


def test_answers_to_other_data_of_the_same_ids_are_not_shown(
    data_folder: Path, write_run: Callable[..., Path], tmp_path: Path, runs: tuple[Path, Path]
) -> None:
    lines = [json.loads(line) for line in (runs[0] / "predictions.jsonl").open()]
    run = write_run(tmp_path / "run", data_folder, lines)
    first, *rest = lines
    changed = [{**first, "completion": "another answer"}, *rest]
    (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    with pytest.raises(UserError, match="not the data or answers of then"):
        write_explorer([run], tmp_path / "page")
    assert not (tmp_path / "page" / "data" / "index.js").exists()


def test_the_command_says_what_to_open(data_folder: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from star_r1.cli.explore import app

    out = tmp_path / "page"
    result = CliRunner().invoke(app, [str(data_folder), "--out", str(out)])
    assert result.exit_code == 0
    assert result.stdout == f"open {out / 'index.html'} in a browser\n"
