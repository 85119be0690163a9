"""Patience ends what would go on, and leaves the rest alone."""

import re
import signal

import pytest
from tests.patience import patience


def test_what_hangs_is_ended_also_inside_a_regular_expression() -> None:
    before = signal.getsignal(signal.SIGPROF)
    with pytest.raises(TimeoutError, match="not done"), patience(0.2):
        re.search("(a|a)*b", "a" * 60)
    assert signal.getsignal(signal.SIGPROF) == before
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)


def test_what_ends_in_time_is_left_alone() -> None:
    with patience(0.2):
        pass
    sum(range(20_000_000))
