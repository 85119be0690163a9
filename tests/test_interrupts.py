"""Ctrl-C at any moment: one line and status 130, whatever a library makes of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SLOW = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
{reaction}
"""
BREAKS = {
    "nothing": "finally:\n    pass",
    "another error": "except KeyboardInterrupt:\n    raise RecursionError('lazy') from None",
    "an import error": "except KeyboardInterrupt:\n    raise ImportError('half') from None",
    "catches it": "except BaseException:\n    value = 1",
}
COMMAND = """
import sys, star_r1.cli as cli
def act(*_):
    {act}
    raise KeyError("the work went on")
import star_r1.tvr.change as change
change.parse_changes = act
sys.argv = ["star-r1", "reward", "--truth", "none", "--completion", "x"]
cli.main()
"""


def run(code: str, cwd: Path, debug: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "STAR_R1_DEBUG": debug},
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("reaction", BREAKS)
def test_in_an_import(reaction: str, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW.format(reaction=BREAKS[reaction]))
    assert run(COMMAND.format(act="import slow"), tmp_path, debug="1") == (130, "interrupted\n")


def test_where_a_library_makes_another_error_of_it(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "def work():\n    " + SLOW.format(reaction=BREAKS["another error"]).replace("\n", "\n    ")
    )
    code = COMMAND.format(act="import slow; slow.work()")
    assert run(code, tmp_path, debug="1") == (130, "interrupted\n")


def test_an_error_without_ctrl_c_stays_one(tmp_path: Path) -> None:
    status, said = run(COMMAND.format(act="pass"), tmp_path)
    assert status == 1
    assert "the work went on" in said


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at a process's memory")
def test_in_the_imports_of_a_training(tmp_path: Path) -> None:
    """While torch loads."""
    flags = "train grpo --data none --output_dir out --dry-run"
    child = subprocess.Popen(
        [sys.executable, "-m", "star_r1.cli", *flags.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 120
    while "libtorch_cpu" not in Path(f"/proc/{child.pid}/maps").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, said = child.communicate(timeout=60)
    hint = "the same command goes on from what is finished"
    assert (child.returncode, out, said) == (130, "", f"interrupted; {hint}\n")
