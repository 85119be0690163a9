"""``manifest.json``, the last file of a dataset: what each other file must be."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from star_r1.data.dataset import count_rows, find_splits
from star_r1.files import write_atomic

MANIFEST: Final = "manifest.json"
"""The last file of a dataset."""
_BESIDE: Final = ("README.md", "generate.json", "import.json")
"""What else there may be beside the shards."""


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
    paths = [folder / name for name in _BESIDE if (folder / name).exists()]
    paths += [path for split in find_splits(folder).values() for path in split]
    files = {path.relative_to(folder).as_posix(): describe(path) for path in paths}
    manifest = {"settings": dict(settings or {}), "files": files}
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def describe(path: Path) -> dict[str, Any]:
    """What the manifest says of one file, which is never held in memory as a whole."""
    found: dict[str, Any] = {"bytes": path.stat().st_size}
    if path.suffix == ".parquet":
        found["rows"] = count_rows(path)
    found["sha256"] = sha256(path)
    return found


def sha256(path: Path) -> str:
    """Of a file, which is never held in memory as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
