import doctest
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from star_r1.errors import UserError
from star_r1.report import page as module
from star_r1.report.page import write_report

Runs = tuple[Path, Path, Path]
VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Every element in order, with its attributes and the text directly or further inside it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[int, str] = {}
        self.open: list[tuple[str, int]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.text[len(self.elements) - 1] = ""
        if tag not in VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self.open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}> at {self.getpos()}"
        self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for _, place in self.open:
            self.text[place] += data

    def all(self, tag: str, css: str = "") -> list[tuple[dict[str, str], str]]:
        return [
            (attributes, self.text.get(place, ""))
            for place, (name, attributes) in enumerate(self.elements)
            if name == tag and (not css or css in attributes.get("class", "").split())
        ]


@pytest.fixture(scope="module")
def path(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(runs, path)
    return path


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return Page(path)


def test_every_element_is_closed(page: Page) -> None:
    assert page.open == []


def test_nothing_is_loaded_from_elsewhere(page: Page, path: Path) -> None:
    loaded = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster")
    ]
    assert any(value.startswith("data:image/png;base64,") for value in loaded)
    assert all(value.startswith(("data:", "#")) for value in loaded)
    assert not page.all("link")
    text = path.read_text()
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_what_a_model_says_stays_text(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    said = [text for _, text in page.all("pre")]
    assert any("<script>alert(1)</script><img src=x onerror=alert(2)>\"' & ?" in s for s in said)
    assert "(model <base>)" in " ".join(text for _, text in page.all("p"))


def test_references_within_the_page_hold(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("for", "aria-labelledby"):
            assert attributes.get(name, ids[0]) in ids


def test_pictures_and_charts_have_a_text_alternative(page: Page) -> None:
    shown = [a for a, _ in page.all("svg") if "aria-hidden" not in a]
    assert len(shown) == 4 + 2 * len(page.all("article"))
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in shown)
    labels = " ".join(a["aria-label"] for a in shown)
    assert "Initial picture, center view. " in labels
    assert "Final picture, left view. " in labels


def test_headings_do_not_skip_a_level(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_metrics_stand_before_and_after_with_intervals(page: Page, runs: Runs) -> None:
    rows = [text.split() for _, text in page.all("tr") if text.split()[:1] == ["TAcc"]]
    assert len(rows) == 6
    for run, column in ((runs[0], 2), (runs[2], 6)):
        measured = json.loads((run / "metrics.json").read_text())["overall"]["tacc"]
        low, high = measured["ci95"]
        shown = [f"{100 * measured['value']:.1f}%", f"{100 * low:.1f}", "–", f"{100 * high:.1f}"]
        assert rows[0][column : column + 4] == shown
    # overall the interval of the paired difference holds 0, in the center it does not
    assert rows[0][10:] == ["+33.3", "-4.7", "–", "+71.3"]
    assert rows[1][10:] == ["+83.3", "▲", "better", "+45.3", "–", "+100.0"]
    diffs = [text.split() for _, text in page.all("tr") if text.split()[:1] == ["Diff"]]
    assert diffs[1][-5:-3] == ["▼", "better"]
    assert diffs[1][-6].startswith("-")
    # right: no rows, which is no zero
    assert rows[3][1:] == ["0", "–", "–"]


def test_gallery_shows_pairs_of_every_kind(page: Page) -> None:
    kinds = {(a["data-view"], a["data-outcome"]) for a, _ in page.all("article")}
    outcomes = ("right", "wrong", "newly right", "newly wrong")
    assert kinds == {
        (view, outcome)
        for view in ("center", "left")
        for outcome in outcomes
        # in the fixture every other row, which is every center row, is right after training
        if (view == "center") == (outcome in ("right", "newly right"))
    }
    badges = [text for a, text in page.all("span", "badge")]
    assert {"newly right", "newly wrong"} <= set(badges)


def test_gallery_explains_the_reward(page: Page) -> None:
    terms = [" ".join(text.split()) for _, text in page.all("p", "terms")]
    assert len(terms) == 2 * len(page.all("article"))
    for line in terms:
        total, *parts = (float(number) for number in re.findall(r"[-+]?\d+(?:\.\d+)?", line))
        assert len(parts) == 6
        assert total == pytest.approx(sum(parts))
    fates = [a["class"] for a, _ in page.all("li") if a.get("class")]
    assert {"exact", "wrong"} <= set(fates)


def test_the_same_runs_give_the_same_page(runs: Runs, path: Path, tmp_path: Path) -> None:
    write_report(runs, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("chosen", "headings"),
    [
        ((0,), ["The 11 metrics", "Pairs"]),
        ((1,), ["Training"]),
        ((1, 1), ["Training"]),
        ((0, 2), ["The 11 metrics", "Pairs"]),
        ((0, 1, 2, 2), ["Training", "The 11 metrics", "Pairs"]),
    ],
)
def test_any_selection_of_runs(
    runs: Runs, tmp_path: Path, chosen: tuple[int, ...], headings: list[str]
) -> None:
    write_report([runs[n] for n in chosen], tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert page.open == []
    assert [text for _, text in page.all("h2")] == headings
    sayings = page.all("section", "said")
    assert len(sayings) == len(page.all("article")) * min(2, sum(n != 1 for n in chosen))


def test_moves_other_views_and_trances_metrics(
    moves_runs: tuple[Path, Path], tmp_path: Path
) -> None:
    write_report(moves_runs, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert page.open == []
    assert "The 12 metrics" in [text for _, text in page.all("h2")]
    tabs = ["Overall", "Center", "Left", "Right", "Top", "ID", "OOD"]
    assert [text for a, text in page.all("label") if a.get("for", "").startswith("tab-")] == [
        *tabs,
        *("TRANCE Basic", "TRANCE Event", "TRANCE View"),
    ]
    rows = [text.split() for _, text in page.all("tr")]
    assert len([row for row in rows if row[:1] == ["Position"]]) == len(tabs)
    assert "TAcc left, right and top (OOD)" in [
        text for _, text in page.all("span", "muted") if text.startswith("TAcc")
    ]
    # Event and View: the extra change before is an error of distance, no direction of steps.
    loose = [row for row in rows if row[:1] == ["LAcc"]]
    # (Of four scenes no change is marked, however great.)
    assert [row[-4] for row in loose] == ["+100.0"] * 2
    steps = [row for row in rows if row[:1] == ["avg_step_diff"]]
    assert [row[2::4] for row in steps] == [["1.00", "0.00", "-1.00"]] * 2
    assert {a["data-view"] for a, _ in page.all("article")} == {"center", "top"}
    options = [text for _, text in page.all("option")]
    assert options[:5] == ["all", "center", "left", "right", "top"]
    facts = " ".join(text for _, text in page.all("div", "facts"))
    assert "9: small red metal cube, hidden" in facts
    assert "0.position.left.2 (or another of 3 moves out of sight)" in facts


def test_runs_with_other_metrics_stand_side_by_side(
    runs: Runs, moves_runs: tuple[Path, Path], tmp_path: Path
) -> None:
    write_report([moves_runs[0], runs[0], moves_runs[1]], tmp_path / "page.html")
    rows = [text.split() for _, text in Page(tmp_path / "page.html").all("tr")]
    position = next(row for row in rows if row[:1] == ["Position"])
    assert "–" in position
    assert not [row for row in rows if row[:1] == ["LAcc"]]


def test_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs"):
        write_report([], tmp_path / "page.html")


def test_evaluations_of_different_rows_do_not_compare(runs: Runs, tmp_path: Path) -> None:
    other = Path(shutil.copytree(runs[2], tmp_path / "other"))
    about = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**about, "identity": {"rows": "4567"}}))
    with pytest.raises(UserError, match="different rows"):
        write_report([runs[0], other], tmp_path / "page.html")


def test_data_that_has_moved_is_named(runs: Runs, tmp_path: Path) -> None:
    other = Path(shutil.copytree(runs[2], tmp_path / "other"))
    about = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**about, "data": str(tmp_path / "gone")}))
    with pytest.raises(UserError, match="gone: no such folder"):
        write_report([other], tmp_path / "page.html")


def test_examples() -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_every_curve_of_grpo_has_a_chart(tmp_path: Path) -> None:
    names = {
        "reward": "Reward",
        "answer/right": "Exact answers (TAcc)",
        "reward/missing": "Reward terms",
        "answer/predictions": "Predictions a sample",
        "answer/well_formed": "Well-formed answers",
        "completions/mean_length": "Completion length",
        "completions/clipped_ratio": "Completions cut off",
        "frac_reward_zero_std": "Groups without variance",
        "entropy": "Entropy",
        "kl": "KL to the base model",
        "clip_ratio/region_mean": "Clipped tokens",
        "grad_norm": "Gradient norm",
    }
    entries = [{"step": step, **dict.fromkeys(names, step / 10)} for step in (1, 2)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    write_report([tmp_path], tmp_path / "page.html")
    figures = [text for _, text in Page(tmp_path / "page.html").all("figure", "card")]
    assert len(figures) == len(names)
    assert all(any(text.startswith(name) for text in figures) for name in names.values())
