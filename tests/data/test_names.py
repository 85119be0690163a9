"""Which names rows and files may have."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_r1.data.names import LONGEST, Ids, name_fault


@pytest.mark.parametrize(
    "name",
    [
        "000012-left",
        "12",
        "img_000012-fin.L",
        "A1-Spatial-Transformation_7",
        "样本 12-left",
        "a..b",
    ],
)
def test_names_of_others_are_taken(name: str) -> None:
    assert name_fault(name) == ""


@pytest.mark.parametrize(
    "name",
    [
        *(None, 7, "", ".", "..", ".hidden", "../up", "/etc/passwd", "a/b", "a\\b", "C:a"),
        *("a\0b", "a\nb", "a\x1b[31mb", "a\x9bb", "a\u202eb", "a\u2028b", "\ud800", "a\ufeff"),
        *("CON", "nul.png", "com1", " a", "a ", "a.", "a*", 'a"b', "x" * (LONGEST + 1)),
    ],
)
def test_names_that_could_do_harm_are_not(name: object) -> None:
    assert name_fault(name)


@given(st.text(st.characters(), max_size=140))
def test_a_name_is_one_file_of_its_folder(name: str) -> None:
    if not name_fault(name):
        folder = Path("/somewhere/images")
        path = folder / f"{name}-initial.png"
        assert path.parent == folder
        assert os.path.normpath(path) == str(path)
        assert len(os.fsencode(path.name)) <= 255 - len(".x.12345678.tmp")
        assert name.isprintable()


def test_an_id_is_taken_once() -> None:
    ids = Ids()
    assert ids.first_fault(["a", "b", "c"]) is None
    assert ids.first_fault(["d", "b"]) == (1, "b", "is that of another row too")
