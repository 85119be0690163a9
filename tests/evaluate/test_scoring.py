from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.errors import UserError
from star_r1.evaluate.predictions import Completion, Status
from star_r1.evaluate.scoring import score_completions
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
    record = score_completions(rows, said, seed=3)
    pairs = [(parse_answer(said[s.id][0].text, s.vocabulary), s) for s in samples]
    assert record.pop("answers")["answered"] == len(rows)
    if folder == "moves_folder":
        settings = {setting: score_trance(pairs, setting, seed=3) for setting in SETTINGS}
        assert record.pop("trance") == settings
    assert record == score(pairs, seed=3)


def test_the_metrics_of_several_completions_are_their_means(moves_folder: Path) -> None:
    rows, samples = read(moves_folder)
    said = answers(samples, 3)
    record = score_completions(rows, said, seed=0)
    each = [
        score_completions(rows, {id: [own[n]] for id, own in said.items()}, seed=0)
        for n in range(3)
    ]
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
    """Rows are resampled, not completions: repeats make no interval narrower."""
    rows, samples = read(data_folder)
    said = answers(samples, 1)
    thrice = {id: [replace(own[0], number=n) for n in range(3)] for id, own in said.items()}
    once, more = (score_completions(rows, given, seed=0) for given in (said, thrice))
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
    assert score_completions(rows, said, seed=0)["answers"] == {
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
            score_completions(rows, {**said, last: given}, seed=0)
    with pytest.raises(UserError, match=f"row '{samples[0].id}' has 0 completions, not one"):
        score_completions(rows, {}, seed=0)


def test_no_rows_give_null() -> None:
    record = score_completions([], {}, seed=0)
    assert record["overall"]["tacc"] == {"value": None, "ci95": None, "n": 0}
    assert record["answers"]["malformed"] == 0
