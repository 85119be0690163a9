"""Writes a file whole or not at all; reads plain files only; keeps a folder to one process."""

import errno
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from star_r1.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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


def open_regular(path: Path) -> BufferedReader:
    """Open a file that others named, to read its bytes.

    A FIFO would be waited for and a device never ends: only plain files are opened. Links are
    followed.

    Raises:
        OSError: it is no plain file, there is none, no file can have this name, or it cannot be
            read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a plain file", str(path))
        return path.open("rb")
    except ValueError:  # a NUL, or half of a surrogate pair
        raise OSError(errno.EINVAL, "No file can have this name", str(path)) from None


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a file that others named, at most so many of them.

    Raises:
        OSError: as ``open_regular``, or the file is larger.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_atomic(path, "done")
    >>> read_regular(path, 4)
    b'done'
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"Larger than {most} bytes", str(path))
    return content


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a file of ``folder`` is a link to one that lies elsewhere.

    In the Hub's cache all files are links from ``snapshots/REVISION`` into ``blobs`` beside
    ``snapshots``: these do not lead out.

    >>> leads_out(Path("data/a.parquet"), Path("data"))
    False
    """
    real, root = path.resolve(), folder.resolve()
    caches = (parent.parent for parent in (root, *root.parents) if parent.name == "snapshots")
    return not (
        real.is_relative_to(root) or any(real.parent == cache / "blobs" for cache in caches)
    )


@contextmanager
def alone(folder: Path, flag: str, work: str) -> Iterator[None]:
    """Hold a folder, made if absent, that one process at a time may write.

    The system lets go of it when the process ends, however it ends. Where there are no locks
    (Windows, some network file systems) nothing is held.

    Args:
        folder: which one.
        flag: that names it, for messages.
        work: what is done to it, for messages: ``evaluating``.

    Raises:
        UserError: it cannot be made, or another process holds it.

    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp()) / "run"
    >>> with alone(out, "--out", "evaluating"):
    ...     try:
    ...         check_free(out, "--out", "evaluating")
    ...     except UserError as error:
    ...         print(str(error).partition(": ")[2])
    another process is evaluating into it; wait for its end, or choose another folder
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag} {folder}: {error.strerror}; choose another folder") from None
    held = _lock(folder, exclusive=True)
    if held is None:
        raise _taken(folder, flag, work)
    try:
        yield
    finally:
        if held >= 0:
            os.close(held)


def check_free(folder: Path, flag: str, work: str) -> None:
    """See that nobody holds the folder by ``alone``, without holding it; arguments as there.

    Raises:
        UserError: another process holds it.
    """
    if not folder.is_dir():
        return
    held = _lock(folder, exclusive=False)
    if held is None:
        raise _taken(folder, flag, work)
    if held >= 0:
        os.close(held)


def _taken(folder: Path, flag: str, work: str) -> UserError:
    return UserError(
        f"{flag} {folder}: another process is {work} into it; wait for its end, or choose "
        "another folder"
    )


def _lock(folder: Path, exclusive: bool) -> int | None:
    """A descriptor that holds the folder while it is open; None: taken; -1: no locks here."""
    if fcntl is None:
        return -1
    while True:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            return None if isinstance(error, BlockingIOError) else -1
        try:
            # Whoever held it may have moved it, and made another at its place, in between.
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        except FileNotFoundError:  # it is being moved
            os.close(descriptor)
            return None
        os.close(descriptor)
