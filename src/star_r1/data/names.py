"""What rows, splits and files may be called: names come from files, and some become paths."""

import re
from collections.abc import Iterable
from typing import Any, Final

LONGEST: Final = 128
"""Bytes of an id: with what exports add to it a file system still takes it."""
SPLIT: Final = re.compile(r"\w+", re.ASCII)
"""The name of a split that star-r1 makes."""
MOST_SHARDS: Final = 99_999
"""Of a split: the number of a shard has five digits, for us as for the ``datasets`` library."""

_FORBIDDEN: Final = frozenset('/\\:*?"<>|')
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.ASCII | re.IGNORECASE)
"""What Windows takes for a device, whatever the ending."""


def name_fault(name: Any) -> str:
    r"""Why a text cannot name a row or a file; empty where it can.

    Names are printable text of any script, of at most ``LONGEST`` bytes, that is a file name on
    every system and cannot lead out of a folder: no slash, backslash or any of ``:*?"<>|``, no
    dot or space at its ends, no name of a Windows device.

    >>> name_fault("000012-left"), name_fault("../000012-left")
    ('', "holds '/'")
    """
    if not isinstance(name, str) or not name:
        return "is no text" if name != "" else "is empty"
    if not name.isprintable():
        return "holds control or other characters that do not print"
    if len(name.encode()) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    if bad := next((letter for letter in name if letter in _FORBIDDEN), ""):
        return f"holds {bad!r}"
    if name.strip(". ") != name:
        return "begins or ends with a dot or space"
    if _RESERVED.fullmatch(name):
        return "is the name of a device on Windows"
    return ""


def sample_name(id: str) -> str:
    """What the ids of all views of a sample have in common.

    >>> sample_name("000012-left"), sample_name("alone")
    ('000012', 'alone')
    """
    return id.rpartition("-")[0] or id


class Ids:
    """The ids of a dataset so far: each a name, none twice."""

    def __init__(self) -> None:
        """None yet."""
        self._seen: set[str] = set()

    def fault(self, id: Any) -> str:
        """Take the next id; why it cannot be one, or empty.

        >>> ids = Ids()
        >>> ids.fault("000000-left"), ids.fault("000000-left")
        ('', 'is that of another row too')
        """
        if what := name_fault(id):
            return what
        if id in self._seen:
            return "is that of another row too"
        self._seen.add(id)
        return ""

    def first_fault(self, ids: Iterable[Any]) -> tuple[int, Any, str] | None:
        """Take many: place, id and fault of the first one that cannot be one."""
        for place, id in enumerate(ids):
            if what := self.fault(id):
                return place, id, what
        return None
