from hypothesis import given
from hypothesis import strategies as st

from star_r1.texts import harmless, sheet_cell


@given(st.text(st.characters()), st.integers(0, 40))
def test_nothing_is_left_that_a_terminal_obeys(text: str, longest: int) -> None:
    shown = harmless(text, longest)
    assert shown.isprintable()
    assert len(shown) <= 10 * longest + 3
    assert shown == text or not text.isprintable() or len(text) > longest


@given(st.sampled_from("=+-@\t\r\n＝＋－＠"), st.text(st.characters()))
def test_no_cell_begins_a_formula(start: str, text: str) -> None:
    cell = sheet_cell(start + text)
    assert cell.startswith("'")
    assert cell.isprintable()
