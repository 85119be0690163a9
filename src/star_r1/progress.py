"""The progress of long work on stderr: a bar in a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn
from rich.progress import ProgressColumn as Column
from rich.text import Text

from star_r1.texts import harmless

LOG_SECONDS: Final = 30.0
"""Time between two plain lines where stderr is no terminal."""


class Advance(Protocol):
    """What ``progress`` hands out, to be called for each finished piece of work."""

    def __call__(self, n: int = 1, /) -> None:
        """Count ``n`` pieces as done."""


@contextmanager
def progress(title: str, total: int, unit: str = "samples", done: int = 0) -> Iterator[Advance]:
    """Show how far the work inside the ``with`` block is, how fast it goes, and how long it takes.

    Args:
        title: what is being done, such as ``Rendering``.
        total: pieces of work in all, zero or more.
        unit: plural noun of a piece.
        done: pieces that an earlier run finished; they do not count in the rate.

    >>> with progress("Counting", total=3, unit="sheep") as advance:
    ...     for _ in range(3):
    ...         advance()
    """
    console = Console(stderr=True)
    title = harmless(title)
    if console.is_terminal:
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(unit, done),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(escape(title), total=total, completed=done)
            yield lambda n=1, /: bar.advance(task, n)
        return

    started = last = time.monotonic()
    finished = done

    def advance(n: int = 1, /) -> None:
        nonlocal finished, last
        finished += n
        now = time.monotonic()
        if now - last >= LOG_SECONDS:
            last = now
            pace = _pace(finished - done, total - finished, now - started, unit)
            line = f"{title}: {finished}/{total} {pace}"
            console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

    yield advance


class _RateColumn(Column):
    def __init__(self, unit: str, done: int) -> None:
        super().__init__()
        self.unit, self.done = unit, done

    def render(self, task: Task) -> Text:
        done, left = int(task.completed) - self.done, int((task.total or 0) - task.completed)
        return Text(_pace(done, left, task.elapsed or 0.0, self.unit), style="progress.remaining")


def _pace(done: int, left: int, seconds: float, unit: str) -> str:
    """Rate and time left (or taken, at the end) in words.

    >>> _pace(10, 100, 5.0, "samples")
    'samples, 2.0/s, 50 s left'
    >>> _pace(10, 1000, 20.0, "samples")
    'samples, 2.0 s each, 33 min left'
    >>> _pace(0, 10, 20.0, "samples")
    'samples'
    """
    if not done or not seconds:
        return unit
    rate = done / seconds
    speed = f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
    return f"{unit}, {speed}, " + (
        f"{_span(left / rate)} left" if left else f"took {_span(seconds)}"
    )


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
