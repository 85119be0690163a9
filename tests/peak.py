"""The most bytes that live tensors take at one time, by torch's own tracker of allocations."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker


class _Tracker(MemTracker):
    """Without statistics of modules, which may be called once each only (torch 2.13)."""

    def _pre_fw_hook(self, *args: Any) -> None:
        pass

    _post_fw_hook = _pre_bw_hook = _post_bw_hook = _pre_fw_hook


def peak_bytes(function: Callable[[], Any], held: Iterable[Tensor | nn.Module] = ()) -> int:
    """Of the tensors on the CPU that are there while ``function`` runs, ``held`` left out.

    Args:
        function: is run once.
        held: what is there already and is not to be counted.
    """
    tracker = _Tracker()
    tracker.track_external(*held)
    before = _total(tracker, "current")
    with tracker:
        function()
    return _total(tracker, "peak") - before


def _total(tracker: _Tracker, when: str) -> int:
    found = tracker.get_tracker_snapshot(when).values()
    return sum(int(sizes["Total"]) for sizes in found)
