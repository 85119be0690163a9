"""What the columns of rows may hold, before anything is made of them."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from star_r1.data.names import Ids
from star_r1.data.pictures import PAIR
from star_r1.texts import harmless
from star_r1.tvr.vocabulary import camera_position

LONGEST_TEXT: Final = 1 << 16
"""Bytes of a column of text; ours take some 3,000, a rig with all views 25,000."""

ROLES: Final = ("system", "user", "assistant")
"""Of the messages of a prompt."""
_SPECIAL: Final = re.compile(r"<\|[a-z_]{1,40}\|>|<image>", re.ASCII)
"""Tokens of chat templates, and the place of a picture in the data of other trainers."""


def batch_fault(batch: pa.RecordBatch, ids: Ids) -> tuple[int, str] | None:
    """The first thing wrong with the rows of a batch: place, what."""
    names = batch["id"].to_pylist() if "id" in batch.schema.names else None
    if names and (found := ids.first_fault(names)):
        place, id, what = found
        return place, f": id {harmless(repr(id), 80)} {what}; give each row a name of its own"
    for name in batch.schema.names:
        column = batch[name]
        faults: Iterable[str] = ()
        if pa.types.is_string(column.type):
            lengths = pc.binary_length(column)
            if (pc.max(lengths).as_py() or 0) > LONGEST_TEXT:
                long = f"is longer than {LONGEST_TEXT >> 10} KB"
                faults = (long if (n or 0) > LONGEST_TEXT else "" for n in lengths.to_pylist())
        if name == "view" and not faults:
            faults = map(_view_fault, column.to_pylist())
        elif name == "prompt":
            faults = map(prompt_fault, column.to_pylist())
        for place, what in enumerate(faults):
            if what:
                row = f" ({names[place]!r})" if names else ""
                return place, f"{row}: column {name!r} {what}"
    return None


def prompt_fault(prompt: Any) -> str:
    """Why messages cannot be shown to a model with the pictures of their row; empty if they can.

    >>> prompt_fault([{"role": "user", "content": [{"type": "text", "text": "What changed?"}]}])
    'has places for 0 pictures, not two'
    """
    pictures = 0
    for message in prompt or ():
        if not message or message["role"] not in ROLES:
            return f"has a message that is of none of {', '.join(ROLES)}"
        for part in message["content"] or ():
            kind, text = (part["type"], part["text"]) if part else (None, None)
            if kind == "image":
                pictures += 1
            elif kind != "text" or not isinstance(text, str) or len(text) > LONGEST_TEXT:
                return "has a part that is neither a picture nor text"
            elif special := _SPECIAL.search(text):
                return f"holds {special[0]!r}, which models take for something else than text"
    return "" if pictures == len(PAIR) else f"has places for {pictures} pictures, not two"


@lru_cache(maxsize=512)
def _view_fault(view: str | None) -> str:
    try:
        camera_position(view or "")
    except ValueError as error:
        return harmless(str(error), 200)
    return ""
