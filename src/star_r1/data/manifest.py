"""``manifest.json``, the last file of a dataset: what each other file must be."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from star_r1.data.dataset import count_rows, find_splits
from star_r1.data.names import name_fault
from star_r1.errors import UserError
from star_r1.files import leads_out, open_regular, read_regular, write_atomic
from star_r1.texts import harmless

MANIFEST: Final = "manifest.json"
"""The last file of a dataset."""
BESIDE: Final = ("README.md", "generate.json", "import.json")
"""What else there may be beside the shards."""
MAX_BYTES: Final = 1 << 26
"""Of a manifest: that of the most shards takes 20 MB."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says.

    Attributes:
        settings: what the shards were made from; empty where nobody says.
        files: name -> ``bytes``, ``sha256`` and, of a shard, ``rows``. Names are of ``BESIDE``, or
            of files in ``data``.
    """

    settings: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]


def write_manifest(folder: Path, settings: Mapping[str, Any] | None = None) -> None:
    """Write ``folder/manifest.json``: bytes, SHA-256 and rows of every shard; call it last.

    ``{"settings": ..., "files": {"data/train-00000-of-00001.parquet": {"bytes": ..., "rows": ...,
    "sha256": ...}}}``; the card and the file with the settings are among the files, without rows.
    The same folder gives the same manifest.

    Args:
        folder: holds the shards in ``data/`` and the card ``README.md``, whole.
        settings: what the shards were made from.

    Raises:
        UserError: it cannot be written.
    """
    paths = [folder / name for name in BESIDE if (folder / name).exists()]
    paths += [path for split in find_splits(folder).values() for path in split]
    files = {path.relative_to(folder).as_posix(): describe(path) for path in paths}
    manifest = {"settings": dict(settings or {}), "files": files}
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def describe(path: Path) -> dict[str, Any]:
    """What the manifest says of one file, which is never held in memory as a whole.

    Raises:
        OSError: it is no plain file, or cannot be read.
    """
    found: dict[str, Any] = {"bytes": path.stat().st_size}
    if path.suffix == ".parquet":
        found["rows"] = count_rows(path)
    found["sha256"] = sha256(path)
    return found


def sha256(path: Path) -> str:
    """Of a file, which is never held in memory as a whole.

    Raises:
        OSError: it is no plain file, or cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read ``folder/manifest.json``, which may come from anybody.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is none, or names files that do not belong to a dataset.
    """
    path = folder / MANIFEST
    found = read_json(path, MAX_BYTES)
    settings, files = (found.get(name) for name in ("settings", "files"))
    if not isinstance(settings, dict) or not isinstance(files, dict):
        raise UserError(f"{path}: not a manifest: give settings and files")
    for name, about in files.items():
        shown = harmless(name, 100)
        start, _, file = name.rpartition("/")
        if name not in BESIDE and (start != "data" or name_fault(file)):
            raise UserError(f"{path}: not a manifest: {shown} is no file of a dataset")
        if not isinstance(about, dict) or not _KINDS.keys() >= about.keys() >= _NEEDED:
            raise UserError(f"{path}: not a manifest: of {shown} give {', '.join(_KINDS)}")
        for key, value in about.items():
            if type(value) is not _KINDS[key]:
                held = harmless(repr(value), 60)
                raise UserError(f"{path}: not a manifest: {key} of {shown} is {held}")
        if leads_out(folder / name, folder):
            raise UserError(f"{folder / name}: is a link that leads out of the dataset")
    return Manifest(settings, files)


_KINDS: Final = {"bytes": int, "rows": int, "sha256": str}
_NEEDED: Final = {"bytes", "sha256"}


def read_json(path: Path, most: int) -> dict[str, Any]:
    """The JSON object in a file of others.

    Args:
        path: of the file.
        most: bytes it may have.

    Raises:
        FileNotFoundError: there is none.
        UserError: it cannot be read, is larger, or no JSON object.
    """
    try:
        found = json.loads(read_regular(path, most))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {harmless(str(error), 200)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: not a JSON object")
    return found


def digest(files: Iterable[Path]) -> str:
    """SHA-256 of the SHA-256 of each file, in their order; all bytes are read, names do not count.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "shard"
    >>> _ = path.write_bytes(b"rows")
    >>> before = digest([path])
    >>> _ = path.write_bytes(b"row!")
    >>> digest([path]) == before
    False
    """
    with ThreadPoolExecutor() as threads:  # hashing lets go of the interpreter's lock
        sums = "".join(threads.map(sha256, files))
    return hashlib.sha256(sums.encode()).hexdigest()


def holds_dataset(folder: Path) -> bool:
    """Whether a dataset lies in a folder, so that nothing else should be written there."""
    return (folder / MANIFEST).is_file() or any((folder / "data").glob("*.parquet"))
