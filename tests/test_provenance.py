import subprocess
from pathlib import Path

import pytest

from star_r1.provenance import _commit, provenance


def test_says_where_numbers_come_from() -> None:
    about = provenance()
    assert set(about) == {"commit", "date", "machine", "versions"}
    assert about["date"].endswith("+00:00")
    assert about["machine"]["processor"]
    assert {"python", "torch", "numpy"} <= set(about["versions"])


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "module.py").write_text("x = 1\n")
    git("init")
    git("add", "module.py")
    git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-m", "x")
    (tmp_path / "untracked.py").write_text("y = 1\n")
    return tmp_path


def test_commit_of_the_clone_and_whether_it_was_changed(clone: Path) -> None:
    commit = _commit(clone / "module.py")
    assert commit is not None
    assert len(commit) == 40
    (clone / "module.py").write_text("x = 2\n")
    assert _commit(clone / "module.py") == f"{commit}-dirty"


def test_no_commit_for_a_file_that_is_not_part_of_the_repository_around_it(clone: Path) -> None:
    assert _commit(clone / "untracked.py") is None
