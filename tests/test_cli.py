"""The real command line, in its own process: what it prints, and its exit status."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from star_r1 import trance_metrics
from star_r1.metrics import GROUPS, METRICS

HEAVY = ("torch", "mitsuba", "datasets", "pyarrow", "transformers", "trl", "matplotlib", "PIL")
COMPLETION = "<think>..</think><answer>2.color.cyan, 0.shape.sphere, 9.size.huge</answer>"


def star_r1(
    *arguments: object, cwd: Path, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "star_r1.cli", *map(str, arguments)],
        capture_output=True,
        cwd=cwd,
        input=stdin,
        env={**os.environ, "HF_DATASETS_CACHE": str(cwd / "cache"), **environment},
        timeout=120,
    )


@pytest.fixture(scope="module")
def folders(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A dataset, one that is cut off, a folder of something else, and predictions of all kinds."""
    import datasets

    here = tmp_path_factory.mktemp("folders")
    (here / "occupied").mkdir()
    (here / "occupied" / "mine").write_text("kept")
    shutil.copytree(data_folder, here / "data")
    shutil.copytree(data_folder, here / "cut")
    os.truncate(here / "cut" / "data" / "train-00000-of-00001.parquet", 1000)
    row = '{"id": "000000-center", "completion": ""}\n'
    (here / "good").write_text(row)
    (here / "broken").write_text(row + '{"id": \n')
    (here / "unknown").write_text('{"id": "999999-center", "completion": ""}\n')
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
        yield here


def test_the_command_line_itself_is_light() -> None:
    code = f"import sys, star_r1.cli; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"[]\n"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("generate", "--help")])
def test_help(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = star_r1(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Usage: star-r1" in done.stdout


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("frobnicate", "No such command 'frobnicate'; see 'star-r1 --help'"),
        ("--frobnicate", "No such option: --frobnicate; see 'star-r1 --help'"),
        ("train", "Missing command; see 'star-r1 train --help'"),
        ("generate --samples 3", "Missing option '--out'; see 'star-r1 generate --help'"),
        ("generate --out a --samples many", "Invalid value for '--samples': "),
        ("generate --out a --samples 0", "Invalid value for '--samples': "),
        ("generate --out a --samples 3 --seed -1", "Invalid value for '--seed': "),
        ("generate --out a --samples 3 --workers 0", "Invalid value for '--workers': "),
        ("generate --out a --samples 3 --colour 1", "No such option: --colour"),
        ("generate --out a --samples 3 --size 320", "--size 320: give width x height in pixels"),
        ("generate --out a --samples 3 --size 9x9", "size 9x9: give width x height in pixels"),
        ("generate --out a", "how many samples? Give --samples"),
        ("generate --out a --samples 3 --views below", "views 'below': name one or more of center"),
        ("generate --out a --samples 3 --objects 0-3", "visible objects 0-3: give two numbers"),
        ("generate --out a --samples 3 --objects few", "--objects few: give one number or "),
        ("generate --out a --samples 3 --changes 4-2", "changes 4-2: give two numbers"),
        ("generate --out a --samples 3 --changes 5", "changes 5-5: 1 visible objects have only 4"),
        ("generate --out a --samples 3 --split ../b", "split '../b': use letters, digits and _"),
        (
            "generate --out a --samples 3 --attributes mass",
            "--attributes: attributes: 'mass' is not",
        ),
        (
            "generate --out a --samples 3 --vocabulary good",
            "good: 'id' is not one of colors, sizes",
        ),
        ("generate --out a --config none.yaml", "none.yaml: No such file or directory"),
        ("generate --out a --config broken", "broken:2: not YAML: "),
        ("generate --out a --samples 3 --with smells", "with 'smells': choose from masks, boxes"),
        ("generate --out a --samples 3 --renderer eevee", "renderer 'eevee': choose from mitsuba"),
        ("generate --out a --samples 3 --shard 5", "--shard 5: give i/n, such as 2/8"),
        ("generate --out a --samples 3 --shard 5/4", "shard 5/4: give i/n with i from 1 to n"),
        ("generate --out occupied --samples 3", "occupied: exists and is no dataset of star-r1"),
        ("generate --out occupied/mine/a --samples 3", "cannot write occupied/mine/a/"),
        ("verify", "Missing argument 'data'; see 'star-r1 verify --help'"),
        ("verify none", "none: no such folder"),
        ("show", "Missing argument 'data'; see 'star-r1 show --help'"),
        ("show none --id 000000-left --out x.png", "none: no such folder; make one with"),
        ("show occupied --id 000000-left --out x.png", "occupied: no data/*.parquet in it"),
        ("show data --id 000005-top --out x.png", "data: no row has id '000005-top'; the nearest"),
        ("show data --id 000005-left --out x.doc", "x.doc: .doc is no image format"),
        ("show cut --id 000005-left --out x.png", "cut/data/train-00000-of-00001.parquet: damaged"),
        ("score --data none --predictions good", "none: no such folder"),
        ("score --data cut --predictions good", "cut/data/train-00000-of-00001.parquet: damaged"),
        ("score --data data --predictions none", "none: "),
        ("score --data data --predictions broken", "broken:2: "),
        ("score --data data --predictions unknown", "unknown:1: "),
        ("score --data data --predictions good --metrics f1", "Invalid value for '--metrics': "),
        ("score --data data", "Missing option '--predictions'; see 'star-r1 score --help'"),
        ("reward --truth 2.color.pink --completion x", "--truth '2.color.pink': color 'pink' is "),
        (
            "reward --truth none --completion x --attributes mass",
            "--attributes mass: attributes: 'mass' is not one of color",
        ),
        ("reward --truth 2.color.red", "Missing option '--completion'; see 'star-r1 reward --h"),
        ("report", "Missing argument 'runs'; see 'star-r1 report --help'"),
        ("evaluate --model mini --data data", "Missing option '--out'; see 'star-r1 evaluate"),
        (
            "evaluate --model baseline:best --data data --out a",
            "baseline 'best': choose silent, random",
        ),
        (
            "evaluate --model baseline:silent --data data --out a --temperature hot",
            "--temperature hot: give 0, a number from 0.01 on, or 'default'",
        ),
        (
            "evaluate --model baseline:silent --data data --out a --prices 3",
            "--prices 3: give two numbers of dollars",
        ),
        (
            "evaluate --model baseline:silent --data data --out a --prompt loud",
            "Invalid value for '--prompt': ",
        ),
        (
            "evaluate --model baseline:silent --data data --out a --few-shot 2",
            "--few-shot K and --examples DATA: give both, or neither",
        ),
        (
            "evaluate --model baseline:silent --data data --out a --few-shot 2 --examples data",
            "data: ",
        ),
        ("compare", "Missing argument 'runs'; see 'star-r1 compare --help'"),
        ("compare nowhere", "nowhere: no such run folder; give RUN or NAME=RUN"),
        ("compare data", "data: no metrics.json in it"),
        ("analyze nowhere", "nowhere: no such run folder; give RUN or NAME=RUN"),
        ("analyze data", "data: no metrics.json in it"),
        ("explore nowhere", "nowhere: "),
        ("explore occupied", "occupied: "),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    folders: Path,
    command: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    in_process: Callable[[str], tuple[object, str, str]],
) -> None:
    monkeypatch.chdir(folders)
    before = sorted(folders.rglob("*"))
    status, out, err = in_process(command)
    assert err.startswith(f"error: {line}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert sorted(folders.rglob("*")) == before


@pytest.mark.parametrize("command", ["score --data data", "show none --id 000000-left --out x.png"])
def test_so_does_the_process(folders: Path, command: str) -> None:
    done = star_r1(*command.split(), cwd=folders)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)


def test_reward_as_json(tmp_path: Path) -> None:
    truth = "2.color.cyan, 0.shape.cube"
    terms = {"format": 1.0, "positive": 6.5, "wrong": -1.0, "missing": 0.0, "total": 6.5}
    by_flag = star_r1(
        "reward", "--truth", truth, "--completion", COMPLETION, "--json", cwd=tmp_path
    )
    by_stdin = star_r1(
        "reward",
        *("--truth", truth, "--completion", "-", "--json"),
        cwd=tmp_path,
        stdin=COMPLETION.encode(),
    )
    assert (by_flag.returncode, json.loads(by_flag.stdout)) == (0, terms)
    assert by_stdin.stdout == by_flag.stdout


def test_reward_in_words(tmp_path: Path) -> None:
    truth = "2.color.cyan, 0.shape.cube, 5.size.large"
    done = star_r1("reward", "--truth", truth, "--completion", "-", cwd=tmp_path, stdin=b"\xff no")
    assert done.returncode == 0
    assert done.stdout.decode().splitlines() == [
        "format     +0.0",
        "positive   +0.0",
        "wrong      +0.0",
        "missing    -3.0",
        "total      -3.0",
        "not well-formed: no <think>",
        "missed 2.color.cyan",
        "missed 0.shape.cube",
        "missed 5.size.large",
    ]
    done = star_r1("reward", "--truth", truth, "--completion", COMPLETION, cwd=tmp_path)
    assert done.stdout.decode().splitlines()[5:] == [
        "predicted 2.color.cyan: exact",
        "predicted 0.shape.sphere: attribute",
        "predicted 9.size.huge: wrong",
        "missed 5.size.large",
    ]


def test_score(tmp_path: Path, data_folder: Path) -> None:
    from star_r1.data.dataset import read_columns

    lines = [
        json.dumps({"id": row["id"], "completion": f"<answer>{row['answer']}</answer>"})
        for row in read_columns(data_folder, ["id", "answer"])
    ]
    (tmp_path / "perfect.jsonl").write_text("\n".join(lines))
    flags = ("score", "--data", data_folder, "--predictions", "perfect.jsonl")

    scores = json.loads(star_r1(*flags, "--json", cwd=tmp_path).stdout)
    assert scores.pop("answers")["malformed"] == 1
    del scores["truth"]
    assert {group: list(metrics) for group, metrics in scores.items()} == {
        group: list(METRICS) for group in GROUPS
    }
    tacc = scores["overall"]["tacc"]
    assert (tacc["value"], tacc["n"], tacc["scenes"], tacc["ci95"][1]) == (1, 24, 12, 1)
    assert scores["right"]["tacc"] == {"value": None, "ci95": None, "n": 0, "scenes": 0}

    table = star_r1(*flags, cwd=tmp_path, COLUMNS="100").stdout.decode()
    for text in (*METRICS, *GROUPS, "n=24", "100.0", "73.5–100.0", "0.00–0."):
        assert text in table
    assert "completions: 24 answered; 100.0% are malformed\n" in table

    (tmp_path / "perfect.jsonl").write_text("\n".join([*lines[:4], lines[4][:9]]))
    done = star_r1(*flags, "--unanswered", "leave-out", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["overall"]["tacc"]["n"] == 4
    assert b"perfect.jsonl:5: not JSON" in done.stderr
    assert b"20 of 24 rows have no prediction" in done.stderr


def test_score_by_trances_metrics(tmp_path: Path, moves_folder: Path) -> None:
    from star_r1.data.dataset import read_columns

    lines = [
        json.dumps({"id": row["id"], "completion": f"<answer>{row['answer']}</answer>"})
        for row in read_columns(moves_folder, ["id", "answer"])
    ]
    (tmp_path / "perfect.jsonl").write_text("\n".join(lines))
    flags = ("score", "--data", moves_folder, "--predictions", "perfect.jsonl", "--metrics")
    scores = json.loads(star_r1(*flags, "event", "--json", cwd=tmp_path).stdout)
    acc = scores["overall"]["Acc"]
    assert (acc["value"], acc["n"], acc["scenes"]) == (1, 4, 4)

    # Nine groups do not fit beside each other: none is cut off.
    table = star_r1(*flags, "view", cwd=tmp_path, COLUMNS="80").stdout.decode()
    for text in (*trance_metrics.METRICS, *scores, "top", "n=8", "39.8–100.0", "0.00–"):
        assert text in table
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table


def test_show(tmp_path: Path, data_folder: Path) -> None:
    done = star_r1("show", data_folder, "--id", "000003-left", "--out", "pair.png", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"pair.png\n", b"")
    assert (tmp_path / "pair.png").read_bytes().startswith(b"\x89PNG")


def test_generate_says_where_the_data_is_and_when_it_is_complete(tmp_path: Path) -> None:
    flags = "generate --samples 1 --size 56x42 --views left --out set --samples-per-pixel 2"
    done = star_r1(*flags.split(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    first, seconds, hint = done.stdout.decode().splitlines()
    assert re.fullmatch(r"1 samples made in \d+ s", seconds)
    assert first == "set: 1 samples, 1 rows in set/data, described in set/README.md"
    _, command = hint.split("star-r1 ")
    assert star_r1(*command.split(), cwd=tmp_path).returncode == 0
    assert (tmp_path / "pair.png").exists()
    again = star_r1(*flags.split(), cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout == b"set: 1 samples, 1 rows, complete already; nothing to do\n"


def test_verify_says_what_is_wrong_by_its_status(tmp_path: Path) -> None:
    flags = "generate --samples 1 --size 28x28 --views left --out set --samples-per-pixel 1"
    assert star_r1(*flags.split(), "--shard", "2/2", cwd=tmp_path).stdout == (
        b"set: 1 samples, 1 rows; part 2/2 is complete, 1 shards of others are not\n"
    )
    star_r1(*flags.split(), cwd=tmp_path)
    sound = star_r1("verify", "set", cwd=tmp_path)
    assert (sound.returncode, sound.stderr) == (0, b"")
    assert sound.stdout.endswith(b"\nset: 1 files, 1 sound rows, no faults\n")
    (tmp_path / "set" / "README.md").write_text("mine")
    faulty = star_r1("verify", "set", "--quick", cwd=tmp_path)
    assert (faulty.returncode, faulty.stderr) == (1, b"")
    assert faulty.stdout.startswith(b"README.md: bytes 4, not ")
    assert faulty.stdout.endswith(b"\nset: 1 files, 1 sound rows, 1 fault\n")


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        ("ModuleNotFoundError(name='torch')", 2, "pip install 'star-r1[train]'"),
        ("ModuleNotFoundError('no odd', name='odd')", 1, "unexpected ModuleNotFoundError: no odd"),
        ("PermissionError(13, 'Permission denied', 'a.png')", 2, "a.png: Permission denied"),
        ("KeyError('x\\ny')", 1, "unexpected KeyError: "),
        ("KeyboardInterrupt()", 130, "interrupted"),
    ],
)
def test_what_goes_wrong_inside_a_command(
    tmp_path: Path, raised: str, status: int, line: str
) -> None:
    code = (
        "import sys, star_r1.cli as cli\n"
        f"def fail(*_): raise {raised}\n"
        "import star_r1.tvr.change as change\n"
        "change.parse_changes = fail\n"
        "sys.argv = ['star-r1', 'reward', '--truth', 'none', '--completion', 'x']\n"
        "cli.main()\n"
    )
    quiet, loud = (
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "STAR_R1_DEBUG": debug},
        )
        for debug in ("", "1")
    )
    assert quiet.returncode == status
    assert line in quiet.stderr
    assert quiet.stderr.count("\n") == 1
    assert ("Traceback" in loud.stderr) == (status != 130)


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """As in ``star-r1 reward ... | head -0``."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "star_r1.cli", "reward", "--truth", "none", "--completion", "x"],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
