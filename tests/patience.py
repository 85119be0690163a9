"""An end to what would run for minutes: how a test tells linear time from quadratic, unhurried."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def patience(seconds: float = 20) -> Iterator[None]:
    """Raise a TimeoutError after so many seconds of this process's own work, others' not counted.

    No measure of speed: give it an input that a good algorithm is done with in a fraction of a
    second, and a quadratic one not for minutes.
    """

    def end(*_: object) -> NoReturn:
        raise TimeoutError(f"not done after {seconds} seconds of work")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
