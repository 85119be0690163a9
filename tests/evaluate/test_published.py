from typing import get_args

import pytest

from star_r1.evaluate.published import ABLATIONS, MODELS, Published, Status
from star_r1.metrics import COUNTS, GROUPS, METRICS


def find(model: str, metric: str, group: str = "overall") -> Published:
    (found,) = (
        entry
        for entry in MODELS + ABLATIONS
        if (entry.model, entry.metric, entry.group) == (model, metric, group)
    )
    return found


@pytest.mark.parametrize("entry", MODELS + ABLATIONS)
def test_entries_are_well_formed(entry: Published) -> None:
    assert entry.metric in METRICS
    assert entry.group in GROUPS
    assert entry.status in get_args(Status)
    assert 0 < entry.value < (5 if entry.metric in COUNTS else 1)
    assert entry.note or entry.status != "inferred"
    assert not entry.shown or float(entry.shown) == entry.value


def test_no_number_is_there_twice() -> None:
    for entries in (MODELS, ABLATIONS):
        places = [(entry.model, entry.metric, entry.group) for entry in entries]
        assert len(places) == len(set(places))


@pytest.mark.parametrize("model", ["STAR-R1 7B", "STAR-SFT 7B"])
def test_overall_is_a_third_id_and_two_thirds_ood(model: str) -> None:
    overall, id, ood = (find(model, "tacc", group).value for group in ("overall", "id", "ood"))
    assert overall == pytest.approx((id + 2 * ood) / 3, abs=0.0005)


def test_the_numbers_fit_each_other_and_the_abstract() -> None:
    star = find("STAR-R1 7B", "tacc", "ood").value
    assert star - find("STAR-SFT 7B", "tacc", "ood").value == pytest.approx(0.23)
    for metric in ("tacc", "ndiff"):
        best = find("full reward", metric).value
        assert best == find("STAR-R1 7B", metric).value
        others = [e.value for e in ABLATIONS if e.metric == metric and e.model != "full reward"]
        assert len(others) == 5
        assert best == (max if metric == "tacc" else min)(best, *others)


def test_what_we_computed_is_marked_so() -> None:
    inferred = {(entry.model, entry.metric) for entry in MODELS if entry.status == "inferred"}
    assert inferred == {("STAR-SFT 7B", "tacc"), ("Gemini-1.5-Pro", "tacc")}
