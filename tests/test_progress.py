import io

import pytest
from rich.console import Console

from star_r1 import progress as module
from star_r1.progress import progress


def test_without_a_terminal_only_now_and_then_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with progress("Counting", 100, "sheep", done=20) as advance:
        for _ in range(8):
            now += 10
            advance(10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "Counting: 50/100 sheep, 1.0/s, 50 s left",
        "Counting: 80/100 sheep, 1.0/s, 20 s left",
    ]


def test_in_a_terminal_a_bar_that_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(module, "Console", lambda stderr: terminal)
    with progress("Counting", 3, "sheep", done=1) as advance:
        advance()
        advance(1)
    last = [line for line in screen.getvalue().splitlines() if "Counting" in line][-1]
    assert "3/3" in last
    assert "sheep, " in last
    assert "took " in last


@pytest.mark.parametrize("terminal", [True, False])
def test_a_title_is_no_markup(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """Names of models and folders come from outside."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=100, color_system=None)
    monkeypatch.setattr(module, "Console", lambda stderr: console)
    monkeypatch.setattr(module, "LOG_SECONDS", 0.0)
    with progress("Asking [/m] endpoint:m", 3, "rows") as advance:
        advance()
    assert "Asking [/m] endpoint:m" in screen.getvalue()
    assert ("endpoint:m: 1/3" in screen.getvalue()) != terminal


@pytest.mark.parametrize(
    ("done", "left", "seconds", "text"),
    [
        (0, 5, 9.0, "rows"),
        (10, 50, 5.0, "rows, 2.0/s, 25 s left"),
        (5, 1000, 10.0, "rows, 2.0 s each, 33 min left"),
        (1, 10_000, 2.0, "rows, 2.0 s each, 5.6 h left"),
        (10, 0, 5.0, "rows, 2.0/s, took 5 s"),
    ],
)
def test_pace(done: int, left: int, seconds: float, text: str) -> None:
    assert module._pace(done, left, seconds, "rows") == text
