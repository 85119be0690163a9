import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.errors import UserError
from star_r1.evaluate.predictions import Completion, Status
from star_r1.evaluate.scoring import MetricSet, Unanswered, score_completions, score_file
from star_r1.metrics import GROUPS, score
from star_r1.trance_metrics import SETTINGS, score_trance
from star_r1.tvr import format_changes, parse_answer
from star_r1.tvr.sample import Sample


def read(data: Path) -> tuple[list[dict[str, Any]], list[Sample]]:
    rows = list(read_columns(data, SAMPLE_COLUMNS))
    return rows, list(map(row_to_sample, rows))


def answers(samples: Sequence[Sample], several: int) -> dict[str, list[Completion]]:
    """Right, half right, wrong and broken ones, drawn anew for each completion."""
    rng = np.random.default_rng(0)
    said: dict[str, list[Completion]] = {}
    for sample in samples:
        truth = format_changes(sample.changes)
        texts = [truth, format_changes(sample.changes[:1]), "0.color.red, 3.size.large", "?", ""]
        said[sample.id] = [
            Completion(sample.id, f"<think></think><answer>{texts[rng.integers(5)]}</answer>", n)
            for n in range(several)
        ]
    return said


@pytest.mark.parametrize("folder", ["data_folder", "moves_folder"])
def test_one_completion_a_row_is_scored_as_pairs_are(
    folder: str, request: pytest.FixtureRequest
) -> None:
    rows, samples = read(request.getfixturevalue(folder))
    said = answers(samples, 1)
    record = score_completions(rows, said)
    pairs = [(parse_answer(said[s.id][0].text, s.vocabulary), s) for s in samples]
    assert record.pop("answers")["answered"] == len(rows)
    assert len(record.pop("truth")) == 16
    if folder == "moves_folder":
        settings = {setting: score_trance(pairs, setting) for setting in SETTINGS}
        assert record.pop("trance") == settings
    assert record == score(pairs)


def test_the_metrics_of_several_completions_are_their_means(moves_folder: Path) -> None:
    rows, samples = read(moves_folder)
    said = answers(samples, 3)
    record = score_completions(rows, said)
    each = [score_completions(rows, {id: [own[n]] for id, own in said.items()}) for n in range(3)]
    for group in GROUPS:
        for metric, measured in record[group].items():
            values = [one[group][metric]["value"] for one in each]
            assert measured["n"] == each[0][group][metric]["n"]
            if measured["n"]:
                assert measured["value"] == pytest.approx(np.mean(values))
    events = [one["trance"]["view"]["overall"]["AD"]["value"] for one in each]
    assert record["trance"]["view"]["overall"]["AD"]["value"] == pytest.approx(np.mean(events))
    assert list(record["samples"]["overall"]) == ["pass@1", "pass@2", "pass@3", "majority"]
    assert record["samples"]["ood"]["pass@1"] == record["ood"]["tacc"]
    right = [
        any(parse_answer(one.text, s.vocabulary).is_exactly(s.changes) for one in said[s.id])
        for s in samples
    ]
    assert record["samples"]["overall"]["pass@3"]["value"] == np.mean(right)


def test_the_same_answer_thrice_is_as_sure_as_once(data_folder: Path) -> None:
    """Repeats make no interval narrower."""
    rows, samples = read(data_folder)
    said = answers(samples, 1)
    thrice = {id: [replace(own[0], number=n) for n in range(3)] for id, own in said.items()}
    once, more = (score_completions(rows, given) for given in (said, thrice))
    assert more["answers"].pop("answered") == 3 * once["answers"].pop("answered")
    samples_scores = more.pop("samples")
    assert more == once
    assert {measured["ci95"][1] for measured in samples_scores["overall"].values()} == {
        once["overall"]["tacc"]["ci95"][1]
    }


def test_answers_are_counted_by_status(data_folder: Path) -> None:
    rows, samples = read(data_folder)
    texts: list[tuple[Status, str]] = [
        ("answered", "<think></think><answer>none</answer>"),
        ("answered", "I see nothing"),
        ("empty", ""),
        ("cut_off", "<think>"),
        ("refused", "I cannot"),
        ("failed", ""),
    ]
    said = {
        sample.id: [Completion(sample.id, texts[n % 6][1], status=texts[n % 6][0])]
        for n, sample in enumerate(samples)
    }
    assert len(samples) == 24
    assert score_completions(rows, said)["answers"] == {
        "answered": 8,
        "empty": 4,
        "cut_off": 4,
        "refused": 4,
        "failed": 4,
        "malformed": pytest.approx(5 / 6),
    }


def test_each_row_needs_as_many_completions(data_folder: Path) -> None:
    rows, samples = read(data_folder)
    said = answers(samples, 2)
    last = samples[-1].id
    for given, found in (([], 0), (said[last][:1], 1)):
        with pytest.raises(UserError, match=f"row '{last}' has {found} completions, not 2"):
            score_completions(rows, {**said, last: given})
    with pytest.raises(UserError, match=f"row '{samples[0].id}' has 0 completions, not 1"):
        score_completions(rows, {})


def test_no_rows_give_null() -> None:
    record = score_completions([], {})
    assert record["overall"]["tacc"] == {"value": None, "ci95": None, "n": 0, "scenes": 0}
    assert record["answers"]["malformed"] == 0


def write(path: Path, said: Mapping[str, Sequence[Completion]], seed: int = 0) -> list[bytes]:
    """A predictions file in random order; its lines."""
    lines = [one.to_json().encode() + b"\n" for own in said.values() for one in own]
    np.random.default_rng(seed).shuffle(lines)
    path.write_bytes(b"".join(lines))
    return lines


@pytest.fixture
def shards(data_folder: Path, tmp_path: Path) -> Path:
    """``data_folder`` in five files, one of them empty."""
    table = pq.read_table(data_folder / "data" / "train-00000-of-00001.parquet")
    (tmp_path / "shards" / "data").mkdir(parents=True)
    for n, (start, stop) in enumerate([(0, 1), (1, 8), (8, 8), (8, 20), (20, 24)]):
        path = tmp_path / "shards" / "data" / f"train-{n:05}-of-00005.parquet"
        pq.write_table(table.slice(start, stop - start), path)
    return tmp_path / "shards"


@pytest.mark.parametrize("several", [1, 3])
@pytest.mark.parametrize("metrics", ["star", "basic", "event", "view"])
def test_a_file_is_scored_as_its_completions_are(
    moves_folder: Path, tmp_path: Path, several: int, metrics: MetricSet
) -> None:
    rows, samples = read(moves_folder)
    said = answers(samples, several)
    write(tmp_path / "p.jsonl", said)
    record = score_completions(rows, said)
    trance = record.pop("trance")
    scores = score_file(moves_folder, tmp_path / "p.jsonl", metrics)
    assert scores == (record if metrics == "star" else trance[metrics])


def test_neither_processes_nor_order_nor_files_change_the_scores(
    data_folder: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, samples = read(data_folder)
    said = answers(samples, 2)
    write(tmp_path / "p.jsonl", said)
    write(tmp_path / "q.jsonl", said, seed=1)
    scores = score_file(data_folder, tmp_path / "p.jsonl")
    assert score_file(shards, tmp_path / "q.jsonl") == scores
    monkeypatch.setattr("star_r1.evaluate.scoring._BYTES_A_PART", 700)
    assert score_file(shards, tmp_path / "q.jsonl") == scores
    assert score_file(shards, tmp_path / "p.jsonl", processes=2) == scores


def test_what_is_not_answered_is_an_error_wrong_or_left_out(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, samples = read(data_folder)
    said = answers(samples, 1)
    path = tmp_path / "p.jsonl"
    lines = write(path, said)
    lines[3] = lines[3][:40] + b"\n"  # broken
    lines[5] = lines[5].replace(b'"id": "', b'"id": "x')  # unknown
    lines[-1] = lines[-1][:-20]  # cut off
    del lines[7:9]  # missing
    path.write_bytes(b"".join(lines))
    lost = set(said) - {json.loads(line)["id"] for line in lines[:3] + lines[4:5] + lines[6:-1]}
    assert len(lost) == 5

    with pytest.raises(UserError) as error:
        score_file(data_folder, path)
    assert str(error.value).startswith(f"{path}: 3 broken lines: {path}:4: not JSON: ")
    assert f"; {path}:6: id 'x0" in str(error.value)
    assert f"; {path}:22: not JSON: " in str(error.value)

    empty = {id: [Completion(id, "", status="empty")] for id in lost}
    wrong = score_file(data_folder, path, unanswered="wrong")
    as_empty = score_completions(rows, {**said, **empty})
    counts, all_counts = wrong.pop("answers"), as_empty.pop("answers")
    assert wrong == as_empty
    # A row that nobody asked is no answer, and so none that breaks the format.
    asked = score_completions([row for row in rows if row["id"] not in lost], said)["answers"]
    assert counts == {**asked, "not_asked": 5}
    assert all_counts["empty"] == asked["empty"] + 5
    told = capsys.readouterr().err
    assert f"{path}:4: not JSON" in told
    assert f"{path}: 3 broken lines, passed over" in told
    assert "5 of 24 rows have no prediction, or too few: scored as unanswered" in told

    left = score_file(data_folder, path, unanswered="leave-out")
    answered = [row for row in rows if row["id"] not in lost]
    assert left == score_completions(answered, said)
    assert "5 of 24 rows have no prediction, or too few: not scored" in capsys.readouterr().err


def test_rows_with_fewer_completions_than_others(data_folder: Path, tmp_path: Path) -> None:
    rows, samples = read(data_folder)
    said = answers(samples, 3)
    some, last = said[samples[4].id], said[samples[-1].id]
    del some[0], last[:]
    path = tmp_path / "p.jsonl"
    write(path, said)
    with pytest.raises(UserError) as error:
        score_file(data_folder, path)
    assert f"2 of 3 completions for {samples[4].id!r}, in all for 2 of the 24" in str(error.value)
    left = score_file(data_folder, path, unanswered="leave-out")
    whole = [row for row in rows if len(said[row["id"]]) == 3]
    assert left == score_completions(whole, said)
    some.append(Completion(samples[4].id, ""))
    last += [Completion(samples[-1].id, "")] * 3
    wrong = score_file(data_folder, path, unanswered="wrong")
    assert wrong.pop("answers")["not_asked"] == 4
    as_empty = score_completions(rows, said)
    del as_empty["answers"]
    assert wrong == as_empty


def test_a_file_without_answers(data_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.touch()
    with pytest.raises(UserError, match="no prediction for '000000-center', in all for 24 of"):
        score_file(data_folder, path)
    wrong = score_file(data_folder, path, unanswered="wrong")
    assert (wrong["overall"]["tacc"]["value"], wrong["answers"]["not_asked"]) == (0, 24)
    with pytest.raises(UserError, match=r"no line of it answers a row of .* \(empty\)"):
        score_file(data_folder, path, unanswered="leave-out")
    with pytest.raises(UserError, match="not a file"):
        score_file(data_folder, tmp_path)


@pytest.mark.parametrize("unanswered", ["fail", "wrong", "leave-out"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"id": "000000-center", "completion": ""}]', "one JSON list"),
        (b'\n [\n{"id": "000000-center", "completion": ""}\n]', "one JSON list"),
        (
            gzip.compress(b'{"id": "000000-center", "completion": ""}\n', mtime=0),
            "compressed by gzip",
        ),
        ('{"id": "000000-center", "completion": ""}\n'.encode("utf-16"), "UTF-16"),
        (b"id,completion\n000000-center,none\n", "not JSON: 'id,completion'"),
        (b'{"id": "nobody", "completion": ""}\n', "'nobody' is not in the data"),
        (b'{"000000-center": "none"}', "no field 'id'"),
        (b"PAR1\x15\x04", "a parquet file"),
        (b"\xff\xd8\xff\xe0", "not JSON"),
    ],
)
def test_a_file_in_which_nothing_can_be_read(
    data_folder: Path, tmp_path: Path, content: bytes, message: str, unanswered: Unanswered
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        score_file(data_folder, path, unanswered=unanswered)
    assert "\n" not in str(error.value)


def test_a_line_of_ten_megabytes(data_folder: Path, tmp_path: Path) -> None:
    _, samples = read(data_folder)
    said = answers(samples, 1)
    long = said[samples[0].id][0]
    path = tmp_path / "p.jsonl"
    write(path, said)
    scores = score_file(data_folder, path)
    said[samples[0].id] = [replace(long, text="<think>" + "x" * 10_000_000 + long.text[7:])]
    write(path, said)
    assert score_file(data_folder, path) == scores
    with path.open("ab") as file:
        file.write(b"[" * 10_000_000)
    with pytest.raises(UserError) as error:
        score_file(data_folder, path)
    assert str(error.value).startswith(f"{path}:25: not JSON: '[[[")
    assert len(str(error.value)) < 300


def test_an_id_twice_in_the_data(data_folder: Path, tmp_path: Path) -> None:
    table = pq.read_table(data_folder / "data" / "train-00000-of-00001.parquet")
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    (tmp_path / "p.jsonl").touch()
    with pytest.raises(UserError, match="id '000000-center'"):
        score_file(tmp_path, tmp_path / "p.jsonl")
