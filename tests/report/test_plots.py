import re
from xml.etree import ElementTree

import pytest

from star_r1.report.plots import Point, _smooth, curve_chart
from star_r1.report.runs import Curve

RISING = Curve(tuple(map(float, range(1, 49))), tuple(n / 48 for n in range(48)))


@pytest.fixture
def svg() -> str:
    return curve_chart(
        "TAcc",
        {"a <b>": RISING, "c": Curve((1.0,), (0.5,))},
        [Point("before", 0, 0.2, 0.1, 0.3)],
        percent=True,
    )


def test_is_one_element_with_a_text_alternative(svg: str) -> None:
    root = ElementTree.fromstring(re.sub(r"xlink:", "", svg))
    assert root.attrib["role"] == "img"
    label = root.attrib["aria-label"]
    assert label.startswith("TAcc: a <b> from 2.1% at step 1 to 95.8% at step 48; c from 50.0%")
    assert label.endswith("before at step 0: 20.0%.")
    assert "a <b>" in "".join(root.itertext())


def test_takes_colours_and_font_from_the_page(svg: str) -> None:
    assert {"var(--ink)", "var(--muted)", "var(--grid)", "var(--c0)", "var(--c1)"} <= set(
        re.findall(r"var\(--\w+\)", svg)
    )
    assert re.findall(r"#[0-9a-f]{6}", svg) == []
    assert "font-family" not in svg
    assert "<style" not in svg


def test_the_same_curves_give_the_same_text(svg: str) -> None:
    points = [Point("before", 0, 0.2, 0.1, 0.3)]
    curves = {"a <b>": RISING, "c": Curve((1.0,), (0.5,))}
    assert curve_chart("TAcc", curves, points, percent=True) == svg


def test_smoothing_averages_what_is_there() -> None:
    assert _smooth([3.0] * 50).tolist() == pytest.approx([3.0] * 50)
    assert _smooth([1.0, 2.0, 5.0]).tolist() == [1.0, 2.0, 5.0]
    smooth = _smooth([0.0, 2.0] * 24)
    assert smooth[0] == pytest.approx(2 / 3)
    assert smooth[24] == pytest.approx(0.8)
    assert len(smooth) == 48
