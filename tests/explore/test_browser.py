"""The page in a real browser: headless Chromium, opened from the disk."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_r1.data.dataset import SAMPLE_COLUMNS, read_columns, row_to_sample
from star_r1.evaluate.scoring import score_file
from star_r1.explore.collect import open_source, rows
from star_r1.metrics import judge
from star_r1.render.visibility import instance_mask
from star_r1.tvr.answer import parse_answer

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, pages: Callable[[str], Path]) -> Iterator[Callable[..., Any]]:
    """Open a page by its name; at the end, none may have complained or asked a network."""
    contexts = []
    trouble: list[str] = []

    def open_page(name: str | Path, hash: str = "", context: Any = None, **options: Any) -> Any:
        folder = name if isinstance(name, Path) else pages(name)
        if context is None:
            context = browser.new_context(**{"accept_downloads": True, **options})
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
        page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((f"file://{folder}/", "blob:"))
                else trouble.append(request.url)
            ),
        )
        page.goto(f"file://{folder}/index.html{hash}")
        page.wait_for_selector("body[data-ready]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


def count(page: Any) -> str:
    return str(page.text_content("#count"))


def shown(page: Any) -> str:
    return str(page.text_content("#sample-id"))


def index_of(page: Any) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("JSON.parse(JSON.stringify(StarR1.index))")
    return found


def check(page: Any, facet: str, option: str) -> None:
    page.check(f'input[name="{facet}"][value="{option}"]', force=True)


def test_filters_count_what_they_would_show(visit: Any, runs: tuple[Path, Path]) -> None:
    page = visit("two")
    briefs = [row.brief for row in rows(open_source(runs))]

    def expected(**wanted: Any) -> int:
        return sum(
            wanted.get("view", brief["view"]) == brief["view"]
            and wanted.get("answer", brief["runs"][0]["outcome"]) == brief["runs"][0]["outcome"]
            and wanted.get("changed", brief["changed"][0]) in brief["changed"]
            and ("error" not in wanted or wanted["error"] in brief["runs"][0]["kinds"])
            for brief in briefs
        )

    def beside(facet: str, option: str) -> int:
        return int(page.text_content(f'.option:has(input[name="{facet}"][value="{option}"]) .n'))

    assert count(page) == f"all {len(briefs)}"
    assert beside("view", "left") == expected(view="left")
    assert beside("error1", "invalid") == expected(error="invalid")
    check(page, "view", "left")
    assert count(page) == f"{expected(view='left')} of {len(briefs)}"
    assert beside("answer1", "right") == expected(view="left", answer="right")
    assert beside("view", "center") == expected(view="center")  # what it would show instead
    check(page, "answer1", "right")
    assert count(page) == f"{expected(view='left', answer='right')} of {len(briefs)}"
    for option in ("color", "shape"):
        assert beside("changed", option) == expected(view="left", answer="right", changed=option)
    # All that is shown is what was asked for.
    assert "base" in str(page.text_content("#shares"))
    assert "100.0% right" in str(page.text_content("#shares"))
    page.click("#clear")
    # Of the second run the first of three completions is right, and the third: as TAcc has it.
    check(page, "answer2", "right")
    assert "trained66.7% right" in str(page.text_content("#shares"))
    page.click("#clear")
    assert count(page) == f"all {len(briefs)}"


def test_search_and_an_empty_result(visit: Any) -> None:
    page = visit("one")
    page.fill("#search", "000003")
    assert count(page) == "2 of 24"
    assert shown(page) == "000003-center"
    page.fill("#search", "nowhere")
    assert count(page) == "0 of 24"
    page.wait_for_selector("text=No sample passes the filters.")
    page.click("text=Clear them")
    assert count(page) == "all 24"
    assert page.input_value("#search") == ""


def test_a_link_opens_the_same_view(visit: Any) -> None:
    page = visit("two")
    check(page, "view", "center")
    check(page, "answer2", "right")
    page.fill("#search", "0000")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.wait_for_selector(".switcher")
    page.click('[data-completion="1-2"]')
    page.wait_for_selector('[data-completion="1-2"][aria-pressed=true]')
    hash = page.evaluate("location.hash")
    other = visit("two", hash)
    other.wait_for_selector('[data-completion="1-2"][aria-pressed=true]')
    assert (count(other), shown(other)) == (count(page), shown(page))
    assert other.evaluate("location.hash") == hash
    assert other.is_checked('input[name="view"][value="center"]')
    # What does not exist is passed over.
    odd = visit("two", "#view=nowhere&id=nobody&completion1=99&answer9=right&x=%00%F0&play2=1")
    assert count(odd) == "all 24"
    odd.wait_for_selector("#sample-id")


def test_an_object_lights_up_everywhere(visit: Any, data_folder: Path) -> None:
    page = visit("one", "#id=000001-center")
    page.wait_for_selector("#sample-id")

    def lit() -> dict[str, set[str]]:
        found: dict[str, list[str]] = page.evaluate(
            """() => Object.fromEntries([['rows', '#detail .objects tr.lit'],
              ['before', 'figure:nth-child(1) path.lit'], ['after', 'figure:nth-child(2) path.lit'],
              ['words', '.mention.lit']].map(([name, selector]) => [name,
                [...document.querySelectorAll(selector)].map((node) => node.dataset.object)]))"""
        )
        return {name: set(objects) for name, objects in found.items()}

    sample = next(
        sample
        for sample in map(row_to_sample, read_columns(data_folder, SAMPLE_COLUMNS))
        if sample.id == "000001-center"
    )
    mask = instance_mask(sample.initial, sample.rig, "center", (40, 40))
    assert not any(lit().values())

    # In the table, and in the words: the first visible object is named in them.
    first = str(sample.initial.visible[0].index)
    page.hover(f".objects tr[data-object='{first}']")
    seen = {first} if (mask == int(first)).any() else set()
    assert lit() == {"rows": {first}, "before": seen, "after": seen, "words": {first}}
    page.hover(".mention")
    assert lit()["rows"] == {page.get_attribute(".mention", "data-object")}

    # In a picture: each pixel belongs to the object that the mask says.
    box = page.locator("figure:nth-child(1) svg").bounding_box()
    for row, column in [(int(r), int(c)) for r, c in np.argwhere(mask >= 0)[::37]]:
        scale = box["width"] / 40
        page.mouse.move(box["x"] + (column + 0.5) * scale, box["y"] + (row + 0.5) * scale)
        index = int(mask[row, column])
        assert lit()["rows"] == (set() if index == 255 else {str(index)}), (row, column)

    # By the keyboard: a button of the table, a word, an outline.
    page.mouse.move(0, 0)
    for selector in (".objects .pin", ".mention", "figure:nth-child(2) path"):
        page.focus(selector)
        index = page.get_attribute(selector, "data-object")
        assert lit()["rows"] == {index}
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.tagName") == "path"
    # Held by Enter, it stays when the focus leaves, until Escape.
    page.keyboard.press("Enter")
    held = page.evaluate("document.activeElement.dataset.object")
    page.evaluate("document.activeElement.blur()")
    assert lit()["rows"] == {held}
    page.keyboard.press("Escape")
    assert lit()["rows"] == set()
    page.keyboard.press(first)
    assert lit()["rows"] == {first}


def test_no_label_covers_another(visit: Any) -> None:
    page = visit("one")
    measured = page.evaluate(
        """async () => {
          const found = [];
          for (let place = 0; place < StarR1.index.ids.length; place++) {
            const row = await StarR1.row(place);
            for (const which of [0, 1]) {
              const options = { changed: new Set(), linked: true, alt: () => '' };
              const picture = StarR1.detail.picture(row, which, options);
              const read = (circle) => ['cx', 'cy', 'r'].map((name) => +circle.getAttribute(name));
              found.push([row.pictures[which], [...picture.querySelectorAll('circle')].map(read)]);
            }
          }
          return found;
        }"""
    )
    moved = 0
    for picture, circles in measured:
        for n, (x, y, radius) in enumerate(circles):
            assert radius - 1e-9 <= x <= picture["width"] - radius + 1e-9
            assert radius - 1e-9 <= y <= picture["height"] - radius + 1e-9
            assert all(np.hypot(x - ox, y - oy) > 2 * radius for ox, oy, _ in circles[:n])
        labels = list(picture["labels"].values())
        moved += any(
            np.hypot(a[0] - b[0], a[1] - b[1]) < 1.5 * circles[0][2]
            for n, a in enumerate(labels)
            for b in labels[:n]
        )
    assert moved > 0


def test_the_keyboard_alone_goes_everywhere(visit: Any) -> None:
    page = visit("one")
    ids = index_of(page)["ids"]

    def at(place: int) -> None:
        page.wait_for_function(
            "(id) => document.querySelector('#sample-id')?.textContent === id", arg=ids[place]
        )

    at(0)
    for key, place in (("j", 1), ("j", 2), ("k", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        at(place)
    page.focus("#list")
    for key, place in (("End", 23), ("ArrowUp", 22), ("ArrowDown", 23), ("j", 23), ("Home", 0)):
        page.keyboard.press(key)
        at(place)
    active = page.get_attribute("#list", "aria-activedescendant")
    assert page.get_attribute(f"#{active}", "aria-selected") == "true"
    assert page.get_attribute("#labels", "aria-pressed") == "true"
    page.keyboard.press("l")
    assert page.get_attribute("#labels", "aria-pressed") == "false"
    assert not page.is_visible(".label >> nth=0")
    page.keyboard.press("l")
    assert page.is_visible(".label >> nth=0")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("jkl000002")  # letters are text here
    assert page.input_value("#search") == "jkl000002"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    assert not page.is_visible("#help")
    page.keyboard.press("p")
    assert page.is_visible("#play-heading")
    page.keyboard.press("p")
    assert page.is_visible("#list")


def test_a_step_is_told_to_who_does_not_see_it(visit: Any) -> None:
    page = visit("two")
    ids = index_of(page)["ids"]
    page.keyboard.press("j")
    page.wait_for_selector(f"#now:text('{ids[1]}, ')", state="attached")
    told = page.text_content("#now")
    assert told == page.get_attribute("#list [aria-selected=true]", "aria-label")
    # The list says by itself which line is the active one.
    page.focus("#list")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(f"#sample-id:text('{ids[2]}')")
    assert page.text_content("#now") == ""


def test_arrow_keys_move_a_table_that_is_too_wide(visit: Any) -> None:
    page = visit("two", viewport={"width": 260, "height": 700})
    page.wait_for_selector("#sample-id")
    before = shown(page)
    page.focus(".scroll:has(.objects)")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.scroll:has(.objects)').scrollLeft > 0")
    assert shown(page) == before


def test_two_runs_side_by_side(visit: Any, runs: tuple[Path, Path]) -> None:
    page = visit("two")
    briefs = [row.brief for row in rows(open_source(runs))]
    wins = [
        brief["id"]
        for brief in briefs
        if [run["outcome"] == "right" for run in brief["runs"]] == [True, False]
    ]
    assert 0 < len(wins) < len(briefs)
    preset = page.locator("button:has-text('base right, trained not')")
    assert preset.locator(".n").text_content() == str(len(wins))
    # What it says is what a click shows, whatever else is asked for.
    page.fill("#search", "00000")
    some = [id for id in wins if "00000" in id]
    assert 0 < len(some) < len(wins)
    assert preset.locator(".n").text_content() == str(len(some))
    preset.click()
    assert count(page) == f"{len(some)} of {len(briefs)}"
    page.fill("#search", "")
    assert count(page) == f"{len(wins)} of {len(briefs)}"
    page.wait_for_function(
        "(id) => document.querySelector('#sample-id')?.textContent === id", arg=wins[0]
    )
    panels = page.locator(".said")
    boxes = [panels.nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]
    assert "right" in panels.nth(0).locator("h3").text_content()
    assert "exact" in page.locator(".truth tbody tr >> nth=0").text_content()
    # The completions of the second run, one of which is right.
    page.click('[data-completion="1-1"]')
    page.wait_for_selector('[data-completion="1-1"][aria-pressed=true]')
    assert "try 1" in panels.nth(1).locator("pre").text_content()
    assert page.evaluate("document.activeElement.dataset.completion") == "1-1"


def answer(page: Any, items: list[str]) -> None:
    for item in items:
        page.click(f"#play .pin[data-object='{item[0]}']")
        page.click(f"[data-item='{item}']")
    page.click("#submit")
    page.wait_for_selector("#go-on")


def current_row(page: Any) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(
        """async () => StarR1.row(StarR1.play.order(7)[
             Number(new URLSearchParams(location.hash.slice(1)).get('at')) - 1])"""
    )
    return found


def save(page: Any, folder: Path, button: str = "#export") -> Path:
    with page.expect_download() as download:
        page.click(button)
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def check_score(page: Any, expected: Any) -> None:
    """The table on the page against the metrics of Python."""
    table = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('[data-metric]')].map((row) =>
             [row.dataset.metric, [row.dataset.value, row.lastChild.textContent]]))"""
    )
    assert list(table) == list(expected)
    for metric, (value, n) in table.items():
        assert int(n) == expected[metric]["n"], metric
        if value:
            assert float(value) == pytest.approx(expected[metric]["value"], abs=1e-12), metric
        else:
            assert expected[metric]["value"] is None, metric


def test_a_person_plays_reloads_and_is_scored_as_the_metrics_score(
    visit: Any, data_folder: Path, tmp_path: Path
) -> None:
    page = visit("data", "#play=7")
    page.wait_for_selector("#submit")
    # Nothing tells the truth before the answer: no link into the final picture, no words for it.
    assert page.locator("#play figure:nth-child(1) path").count() > 0
    assert page.locator("#play figure:nth-child(2) svg").count() == 0
    assert ":" not in page.get_attribute("#play figure:nth-child(2) img", "alt")
    assert page.locator("#play .altered, #play .changed").count() == 0

    for question in range(24):
        row = current_row(page)
        truth = [change["text"] for change in row["changes"]]
        first = truth[0].split(".")
        values = row["vocabulary"]["grammar"][first[1]]
        before = row["objects"][int(first[0])]["before"]
        other = next(v for v in values if v != first[2] and v not in before)
        items = [truth, truth[:1], [f"{first[0]}.{first[1]}.{other}"], [], truth][question % 5]
        if question == 3:  # by a click into the picture; and a second thought
            page.click("#play figure:nth-child(1) path >> nth=0", force=True)
            page.click(".values button:not([disabled]) >> nth=0")
            page.reload()
            page.wait_for_selector(".remove")  # the draft is still there
            page.click(".remove")
        answer(page, items)
        assert page.locator("#play figure:nth-child(2) path").count() > 0
        if question == 4:
            before_reload = page.text_content("[data-part=score]")
            page.reload()
            page.wait_for_selector("#submit, #go-on")
            assert page.text_content("[data-part=score]") == before_reload
        if question == 10:  # a part of the rows
            part = save(page, tmp_path)
            assert len(part.read_text().splitlines()) == 11
            expected = score_file(data_folder, part, unanswered="leave-out")
            check_score(page, expected["overall"])
        if question < 23:
            page.click("#go-on")
            page.wait_for_selector("#submit")
    assert "save answers" in page.text_content("#go-on")
    whole = save(page, tmp_path, "#go-on")
    assert "24 of 24" in page.text_content("#answered")
    assert whole.name.endswith("-seed-7.jsonl")
    check_score(page, score_file(data_folder, whole)["overall"])
    assert all(
        json.loads(line)["completion"].startswith("<think></think><answer>")
        for line in whole.open()
    )


def test_a_question_is_answered_by_the_keyboard_alone(visit: Any) -> None:
    page = visit("data", "#play=7")
    page.wait_for_selector("#submit")
    row = current_row(page)
    page.keyboard.press(str(row["changes"][0]["index"]))
    page.keyboard.press("Escape")
    assert page.locator("#play .lit, #play .values").count() == 0
    for change in row["changes"]:
        page.keyboard.press(str(change["index"]))
        assert f"Object {change['index']}" in page.text_content(":focus")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.get_attribute(":focus", "data-item") == change["text"]:
                break
        page.keyboard.press("Space")
    while page.get_attribute(":focus", "id") != "submit":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#go-on:focus")
    assert "Right" in page.text_content("[data-part=verdict]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#play-heading:focus:text('Question 2 of 24')")


def test_play_goes_on_where_it_was_left_for_a_look_around(visit: Any) -> None:
    page = visit("data", "#play=7&at=5")
    page.wait_for_selector("#play-heading:text('Question 5 of 24')")
    page.keyboard.press("p")
    assert page.is_visible("#list")
    page.click("#mode")
    page.wait_for_selector("#play-heading:text('Question 5 of 24')")
    assert page.input_value("#seed") == "7"
    assert page.evaluate("location.hash") == "#play=7&at=5"


def test_the_table_does_not_tell_a_player_what_the_final_picture_shows(visit: Any) -> None:
    page = visit("covered", "#play=7")
    page.wait_for_selector("#submit")
    covered = "#play .objects tr:has-text('out of sight')"
    assert page.get_attribute(covered, "data-object") == "1"  # of the first picture, as it shows
    answer(page, ["0.color.blue"])
    assert page.locator(covered).count() == 0  # the final one shows it
    assert page.locator("#play figure:nth-child(2) path[data-object='1']").count() == 1


def test_the_order_follows_from_the_seed_and_takes_each_scene_once_at_first(visit: Any) -> None:
    one, other = visit("data"), visit("two")
    orders = [page.evaluate("StarR1.play.order(5)") for page in (one, other)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(24))
    assert one.evaluate("StarR1.play.order(6)") != orders[0]
    ids = index_of(one)["ids"]
    assert len({ids[place][:6] for place in orders[0][:12]}) == 12


def test_progress_is_kept_by_seed_and_can_be_forgotten(visit: Any) -> None:
    page = visit("data", "#play=1")
    page.wait_for_selector("#submit")
    page.click("#submit")
    page.wait_for_selector("#go-on")
    page.fill("#seed", "2")
    page.click("text=Go")
    page.wait_for_selector("#submit")
    assert page.text_content("#answered").startswith("0 of")
    page.fill("#seed", "1")
    page.click("text=Go")
    page.wait_for_selector("#answered:has-text('1 of')")
    page.evaluate("window.confirm = () => true")
    page.click("#forget")
    page.wait_for_selector("#answered:has-text('0 of')")
    page.reload()
    page.wait_for_selector("#submit")
    assert page.text_content("#answered").startswith("0 of")


def test_a_browser_that_keeps_nothing_is_told_so(visit: Any, browser: Any) -> None:
    context = browser.new_context()
    context.add_init_script(
        "Storage.prototype.setItem = () => { throw new DOMException('no', 'QuotaExceededError'); }"
    )
    page = visit("data", "#play=1", context=context)
    page.wait_for_selector("#submit")
    page.click("#submit")
    page.wait_for_selector("text=This browser keeps nothing")
    context.close()


@pytest.mark.parametrize("name", ["data", "moves"])
def test_the_page_judges_as_the_metrics_judge(
    name: str, visit: Any, data_folder: Path, moves_folder: Path
) -> None:
    page = visit(name)
    folder = {"data": data_folder, "moves": moves_folder}[name]
    samples = list(map(row_to_sample, read_columns(folder, SAMPLE_COLUMNS)))
    rng = np.random.default_rng(0)
    cases = []
    for place in range(len(samples)):
        sample = samples[place]
        grammar = [(a, v) for a, values in sample.vocabulary.grammar.items() for v in values]
        for _ in range(40):
            # True changes, some of them twice or with another of their options, and some invented.
            items = [str(change) for change in sample.changes if rng.random() < 0.7]
            for change in sample.changes:
                if change.options and rng.random() < 0.5:
                    items.append(f"{change.index}.position.{rng.choice(change.options)}")
            items += [item for item in items if rng.random() < 0.15]
            for _ in range(int(rng.integers(0, 3)) if rng.random() < 0.5 else 0):
                attribute, value = grammar[int(rng.integers(len(grammar)))]
                items.append(f"{int(rng.integers(0, 3))}.{attribute}.{value}")
            rng.shuffle(items)
            cases.append((place, items))
    found = page.evaluate(
        """async (cases) => Promise.all(cases.map(async ([place, items]) =>
             StarR1.score.judge(await StarR1.row(place), items.map(StarR1.score.parse))))""",
        cases,
    )
    assert len({case["correct"] for case in found}) == 2
    for (place, items), judged in zip(cases, found, strict=True):
        sample = samples[place]
        text = f"<think></think><answer>{', '.join(items) or 'none'}</answer>"
        expected = judge(parse_answer(text, sample.vocabulary), sample)
        assert judged["correct"] == expected.correct, (sample.id, items)
        assert judged["diff"] == expected.diff, (sample.id, items)
        assert judged["ndiff"] == pytest.approx(expected.ndiff)
        assert judged["byAttribute"] == expected.by_attribute, (sample.id, items)


def test_moves_are_played_and_shown(visit: Any, moves_folder: Path, tmp_path: Path) -> None:
    page = visit("moves", "#id=000000-top")
    page.wait_for_selector("text=(-10, -8)")
    page.goto(page.url.split("#")[0] + "#play=7")
    page.wait_for_selector("#submit")
    row = current_row(page)
    answer(page, [change["text"] for change in row["changes"]])
    assert "Right" in page.text_content("[data-part=verdict]")
    part = save(page, tmp_path)
    check_score(page, score_file(moves_folder, part, unanswered="leave-out")["overall"])


def test_without_positions_there_are_pictures_and_a_table(visit: Any) -> None:
    page = visit("unknown")
    page.wait_for_selector("#sample-id")
    assert page.locator("#detail svg").count() == 0
    assert "no positions known" in page.text_content("figcaption >> nth=0")
    assert page.locator("#detail .objects tbody tr").count() == 2
    page.goto(page.url.split("#")[0] + "#play=1")
    page.wait_for_selector("#submit")
    answer(page, ["1.color.blue"])
    assert "Right" in page.text_content("[data-part=verdict]")


def test_other_views_and_colors(visit: Any) -> None:
    page = visit("custom")
    page.wait_for_selector("#sample-id")
    assert [option["name"] for option in page.evaluate(
        "StarR1.filters.facets(StarR1.index)[0].options")] == ["top", "az90"]  # fmt: skip
    color = page.evaluate("getComputedStyle(document.querySelector('.swatch')).backgroundColor")
    assert color == "rgb(255, 180, 200)"


def test_hostile_completions_stay_text(visit: Any) -> None:
    page = visit("hostile")
    for place in range(6):
        page.wait_for_selector("pre")
        assert page.locator(".said script, .said pre img, .said pre iframe").count() == 0
        assert page.evaluate("window.hacked") is None
        if place == 1:
            text = page.text_content("pre")
            assert "</script><script>window.hacked = 1</script>" in text
            assert "\0" in text or "\ufffd" in text
            # Reading takes marks of direction out of items, and a bdi holds letters that turn.
            assert "\u202e" not in page.text_content(".chips")
            assert page.locator(".chips li >> nth=0").locator("bdi").count() == 1
            assert page.text_content(".chips li >> nth=0").endswith("invalid item")
        if place == 2:
            assert "more items" in page.text_content(".chips >> nth=0")
        if place == 4:
            assert "left out" in page.text_content("pre")
        if place == 5:
            assert "failed" in page.text_content(".said h3")
        before = shown(page)
        page.keyboard.press("j")
        if place < 5:
            page.wait_for_function(
                "(id) => document.querySelector('#sample-id').textContent !== id", arg=before
            )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("name", ["two", "moves", "hostile", "unknown"])
def test_a_phone_scrolls_down_only(name: str, visit: Any) -> None:
    page = visit(name, **PHONE)
    page.wait_for_selector("#sample-id")
    assert "→" in page.locator("#detail .objects").aria_snapshot()  # said, where it is not shown
    for hash in ("", "#play=1"):
        page.goto(page.url.split("#")[0] + hash)
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.is_visible("#submit")


def test_a_tap_holds_an_object(visit: Any) -> None:
    page = visit("one", "#id=000001-center", **PHONE)
    page.wait_for_selector(".mention")
    page.locator(".mention").first.tap()
    index = page.get_attribute(".mention", "data-object")
    assert page.locator(f"tr.lit[data-object='{index}']").count() == 1
    page.locator(".mention").first.tap()
    assert page.locator("tr.lit").count() == 0


@pytest.mark.parametrize("hash", ["", "#play=1"])
def test_everything_has_a_name_for_a_screen_reader(hash: str, visit: Any) -> None:
    page = visit("two", hash)
    page.wait_for_selector("#submit" if hash else "#sample-id")
    if hash:
        page.click("#play .pin >> nth=0")
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    nodes = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node.get("ignored") and "role" in node
    ]
    needs_name = {
        *("button", "checkbox", "searchbox", "textbox", "spinbutton", "option", "listbox", "link"),
        *("image", "region", "search", "group", "complementary", "dialog", "progressbar", "list"),
    }
    unnamed = [role for role, name in nodes if role in needs_name and not name.strip()]
    # A fieldset is named by its legend, a <details> and a list of plain text need no name.
    assert [role for role in unnamed if role not in ("group", "list")] == []
    roles = {role for role, _ in nodes}
    assert {"banner", "main", "heading", "table", "columnheader", "rowheader", "status"} <= roles
    assert roles & ({"complementary"} if hash else {"listbox", "search"})
    pictures = [name for role, name in nodes if role == "image"]
    assert pictures[0].startswith("Initial picture, center view. ")


def test_the_tab_key_goes_through_the_page_in_its_order(visit: Any) -> None:
    page = visit("one", "#id=000001-center")
    page.wait_for_selector("#sample-id")
    order = []
    for _ in range(70):
        page.keyboard.press("Tab")
        order.append(
            page.evaluate(
                """() => { const node = document.activeElement;
                     return node.id || node.closest('[id]')?.id || node.tagName; }"""
            )
        )
    wanted = ["labels", "mode", "help-open", "search", "clear", "list", "previous", "next"]
    first_round = order[: order.index("BODY")] if "BODY" in order else order
    assert [id for id in first_round if id in wanted] == wanted
    # A picture and a completion are one stop each, whatever they hold.
    assert len(first_round) < 70


def test_reduced_motion_and_both_color_schemes(visit: Any) -> None:
    page = visit("one", reduced_motion="reduce", color_scheme="dark")
    page.wait_for_selector(".outline")
    style = "getComputedStyle(document.querySelector('.outline')).transitionDuration"
    assert page.evaluate(style) == "0s"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


CONTRAST = """() => {
  const pixel = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const color = (css) => {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = css;
    pixel.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((v, i) => v * a + below[i] * (1 - a));
  const light = (rgb) => rgb.map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  return [...document.querySelectorAll('body *')].filter((node) =>
    node.checkVisibility() && !node.disabled && !node.closest('svg')
    && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()),
  ).map((node) => {
    let ground = [255, 255, 255];
    let opacity = 1;
    const chain = [];
    for (let at = node; at; at = at.parentElement) chain.unshift(getComputedStyle(at));
    for (const style of chain) {
      ground = over(color(style.backgroundColor), ground);
      opacity *= Number(style.opacity);
    }
    const [r, g, b, a] = color(getComputedStyle(node).color);
    const [dark, bright] = [light(ground), light(over([r, g, b, a * opacity], ground))].sort();
    return [(bright + 0.05) / (dark + 0.05), node.className, node.textContent.slice(0, 40)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("hash", ["#q=000001", "#play=7"])
def test_text_stands_out_from_its_ground(hash: str, scheme: str, visit: Any) -> None:
    page = visit("two", hash, color_scheme=scheme, reduced_motion="reduce")
    page.wait_for_selector("#submit" if hash.startswith("#play") else "#sample-id")
    page.click(f"{'#play' if hash.startswith('#play') else '#detail'} .pin >> nth=0")
    measured = page.evaluate(CONTRAST)
    assert len(measured) > 50
    assert [text for text in measured if text[0] < 4.5] == []


def test_on_paper_there_is_the_sample_alone(visit: Any) -> None:
    page = visit("two")
    page.wait_for_selector("#sample-id")
    page.emulate_media(media="print")
    for selector in ("#filters", "#list", "#mode", "#next"):
        assert not page.is_visible(selector), selector
    for selector in ("#sample-id", ".frame img", ".objects", ".truth", "pre"):
        assert page.is_visible(selector), selector
    assert page.evaluate("getComputedStyle(document.body).overflow") == "visible"


def unlink(path: Path) -> None:
    path.unlink()


def cut_off(path: Path) -> None:
    path.write_text(path.read_text()[:1000])


@pytest.mark.parametrize(
    ("missing", "lose", "message"),
    [
        ("index.js", unlink, "run its star-r1 explore command again"),
        ("index.js", cut_off, "run its star-r1 explore command again"),
        ("rows-000.js", unlink, "data/rows-000.js is missing or damaged; copy the whole folder"),
        ("rows-000.js", cut_off, "data/rows-000.js is missing or damaged; copy the whole folder"),
    ],
)
def test_what_is_missing_is_said(
    missing: str,
    lose: Callable[[Path], None],
    message: str,
    browser: Any,
    pages: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(pages("one"), tmp_path / "page")
    lose(folder / "data" / missing)
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"file://{folder}/index.html")
    page.wait_for_selector("#notice:not([hidden])")
    assert message in page.text_content("#notice")
    context.close()
