import secrets
from pathlib import Path

import pytest

from star_r1.errors import UserError
from star_r1.files import leftovers, write_atomic


@pytest.mark.parametrize(("content", "data"), [("blå\n", "blå\n".encode()), (b"\xff", b"\xff")])
def test_replaces_and_leaves_nothing_else(
    tmp_path: Path, content: bytes | str, data: bytes
) -> None:
    path = tmp_path / "new" / "file"
    for _ in range(2):
        write_atomic(path, content)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


def test_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_atomic(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["file/below", "folder"])
def test_a_place_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as error:
        write_atomic(tmp_path / name, "new")
    assert str(error.value).startswith(f"cannot write {tmp_path / name}: ")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file behind the temporary name is a device on which every write fails."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "token")
    (tmp_path / ".file.token.tmp").symlink_to("/dev/full")
    assert leftovers(tmp_path / "file") == [tmp_path / ".file.token.tmp"]
    with pytest.raises(UserError, match=r"^cannot write .*: No space left on device; [^\n]*$"):
        write_atomic(tmp_path / "file", "x")
    assert not list(tmp_path.iterdir())
