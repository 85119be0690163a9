"""Ctrl-C at any moment ends a command with one line, in the middle of an import too.

Python turns Ctrl-C into an exception at whatever bytecode is next. In the middle of an import, lazy
ones above all, what half a module leaves behind then surfaces as something else (transformers 5.23:
RecursionError, ImportError), and a library may even catch it. So there the process ends at once:
nothing has begun that would have to be ended. Elsewhere the exception is raised as always, and
``came`` tells what it was that a library made another one of.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Final

STATUS: Final = 130
"""Exit status of a command that Ctrl-C ended."""
_SHOW_CURSOR: Final = b"\x1b[?25h"
"""A progress bar hides it."""

_line = ""
_came = False


def watch(line: str) -> None:
    """From now on, Ctrl-C in an import ends this process.

    Nothing changes where Ctrl-C is ignored, as in a background job, or handled by someone else.

    Args:
        line: what is said then.
    """
    global _line, _came
    _line, _came = line, False
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, handle)


def handle(number: int, frame: FrameType | None) -> None:
    """The handler: raises KeyboardInterrupt, as Python's own does, but in an import.

    Raises:
        KeyboardInterrupt: no import is going on.
    """
    global _came
    _came = True
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave()
        frame = frame.f_back
    raise KeyboardInterrupt


def came() -> bool:
    """Whether there was a Ctrl-C since ``watch``, of which ``handle`` got to know."""
    return _came


def end() -> None:
    """All is said: a Ctrl-C while Python cleans up ends that."""
    if signal.getsignal(signal.SIGINT) is handle:
        signal.signal(signal.SIGINT, lambda *_: os._exit(STATUS))


def _leave() -> None:
    with suppress(Exception):
        sys.stdout.flush()
    cursor = _SHOW_CURSOR if os.isatty(2) else b""
    os.write(2, cursor + _line.encode() + b"\n")
    os._exit(STATUS)
