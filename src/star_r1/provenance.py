"""Where a number comes from: commit, machine, versions, date."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("star-r1", "torch", "transformers", "trl", "datasets", "numpy", "mitsuba", "openai")


def provenance() -> dict[str, Any]:
    """Commit (None outside a clone), date (UTC), machine and versions of what runs now."""
    return {
        "commit": _commit(Path(__file__)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "system": platform.platform(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: found for name in _PACKAGES if (found := _version(name))},
        },
    }


def _commit(file: Path) -> str | None:
    """The commit of the clone that ``file`` is part of, ``-dirty`` where files were changed."""
    try:
        # Installed into a folder of someone else's repository, the file is not tracked there.
        _git("ls-files", "--error-unmatch", file.name, cwd=file.parent)
        commit = _git("rev-parse", "HEAD", cwd=file.parent)
        changes = _git("status", "--porcelain", "--untracked-files=no", cwd=file.parent)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + "-dirty" * bool(changes)


def _git(*words: str, cwd: Path) -> str:
    run = subprocess.run(
        ["git", *words], cwd=cwd, capture_output=True, text=True, check=True, timeout=10
    )
    return run.stdout.strip()


def _processor() -> str:
    """The processor's name: Linux alone keeps it where ``platform`` does not look."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
