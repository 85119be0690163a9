"""YAML of others: what is refused, and that it is refused at once."""

import os
import time
from pathlib import Path

import pytest

from star_r1.errors import UserError
from star_r1.yaml_file import MOST_VALUES, read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{after}: &{after}\n  <<: [{', '.join(['*' + before] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_anchors_and_merges_are_welcome(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &base {size: 160x120, views: [left]}\nsplits: {train: {<<: *base}}")
    assert read_yaml(path)["splits"] == {"train": {"size": "160x120", "views": ["left"]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, f"holds more than {MOST_VALUES} values"),
        (MERGES, f"holds more than {MOST_VALUES} values"),
        ("a: &a [*a]", f"holds more than {MOST_VALUES} values"),
        ("[" * 5000, "not YAML: "),
        ("samples: 1\nseed: 2\nsamples: 3", ":3: samples is given twice"),
        ("a: " + "x" * (1 << 19), "Larger than "),
        ("a: 1" + "0" * 5000, "not YAML: "),
        ("a: 2024-99-99", "not YAML: "),
        ("a: !!python/object/apply:os.system [ls]", "not YAML: could not determine a constructor"),
        ("a: 1\n---\nb: 2", ":2: not YAML: "),
        ("\x1b[2J", "not YAML: "),
    ],
)
def test_what_is_no_config(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    started = time.monotonic()
    with pytest.raises(UserError) as refused:
        read_yaml(tmp_path / "a.yaml")
    assert time.monotonic() - started < 20
    assert message in str(refused.value)
    assert str(refused.value).isprintable()


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(UserError, match="Not a plain file"):
            read_yaml(path)
    with pytest.raises(UserError, match="--config here: Is a directory"):
        read_yaml(tmp_path, "--config here")
