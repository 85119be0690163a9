"""Writes a file whole or not at all."""

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from star_r1.errors import UserError


@contextmanager
def growing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which appears at ``path`` when the block ends without an error.

    It goes to a temporary name in the same folder first, which is made where there is none: a
    reader, or the next run after a crash, sees the old file or the new one and never a part of it.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full.
    """
    # Not by the process id alone: containers that share a folder often share that too.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; make room or name another place"
        ) from None


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) to ``path`` as a whole; see ``growing``.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "runs" / "note.txt"
    >>> write_atomic(path, "done")
    >>> path.read_text()
    'done'
    """
    with growing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def leftovers(path: Path) -> list[Path]:
    """Temporary files of ``path``, by writers that write it now or were killed at it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_atomic(path, "done")
    >>> leftovers(path)
    []
    """
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.*.tmp"))
