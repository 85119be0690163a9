"""The predictions file: one completion a line, as evaluations write it and anybody may."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from star_r1.errors import UserError
from star_r1.files import open_regular
from star_r1.tvr.answer import whole

Status: TypeAlias = Literal["answered", "empty", "cut_off", "refused", "failed"]
"""What became of a question. Only ``failed`` has no completion of the model: all attempts to get
one failed. ``cut_off`` reached the longest length before its end."""

STATUSES: Final[tuple[Status, ...]] = get_args(Status)

SHOWN_FAULTS: Final = 20
"""Broken lines that a message names one by one; a number stands for the rest."""

MOST_COMPLETIONS: Final = 1 << 20
"""Of one row."""
_SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model said to one question.

    Attributes:
        id: of the row that was asked.
        text: the completion, ``whole``; empty where there is none.
        number: 0 to K - 1, which of the K completions of that row.
        status: what became of the question.
        key: of the model, prompt, pictures and settings that it answers; empty in files of others.
        error: why it failed, one line; empty unless ``status`` is ``failed``.
        prompt_tokens, completion_tokens: what the model or the endpoint counted.
    """

    id: str
    text: str
    number: int = 0
    status: Status = "answered"
    key: str = ""
    error: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def to_json(self) -> str:
        """One line of a predictions file, without its end."""
        row: dict[str, Any] = {
            "id": self.id,
            "completion": self.text,
            "number": self.number,
            "status": self.status,
            "key": self.key,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
        return json.dumps(row | ({"error": self.error} if self.error else {}))


class BrokenLines(UserError):
    """Some lines of a predictions file cannot be read; its message names each by its number."""

    def __init__(self, path: Path, faults: Collection[str]) -> None:
        """``faults``: one a broken line, ``FILE:LINE: what is wrong``, in order."""
        self.faults = tuple(faults)
        shown = "; ".join(self.faults[:SHOWN_FAULTS])
        more = len(self.faults) - SHOWN_FAULTS
        rest = f"; and {more} more" if more > 0 else ""
        many = f"{path}: {len(self.faults)} broken lines: " if len(self.faults) > 1 else ""
        super().__init__(f"{many}{shown}{rest}")


def read_predictions(path: Path, known: Collection[str]) -> dict[str, str]:
    """Id -> its first completion, in the order of the file.

    Args:
        path: see ``read_completions``.
        known: the ids that may occur.

    Raises:
        UserError: as ``read_completions``.
    """
    return {id: completions[0].text for id, completions in read_completions(path, known).items()}


def read_completions(
    path: Path, known: Collection[str] | None = None
) -> dict[str, list[Completion]]:
    """Id -> its completions by number, ids in the order of the file.

    Args:
        path: JSON lines ``{"id": ..., "completion": ...}``, and what else ``Completion.to_json``
            writes where there is some; other fields are not read, empty lines are passed over.
        known: the ids that may occur; None for any.

    Raises:
        BrokenLines: some lines are no JSON objects, lack a field or hold something else than they
            should; an id is not ``known``, or one of its completions is repeated. All are named.
        UserError: the file cannot be read.
    """
    found: dict[str, dict[int, Completion]] = {}
    faults: list[str] = []
    for number, line in _lines(path):
        try:
            completion = read_line(line)
            if known is not None and completion.id not in known:
                raise ValueError(unknown(completion.id))
            here = found.setdefault(completion.id, {})
            if completion.number in here:
                raise ValueError(repeated(completion.id, completion.number))
            here[completion.number] = completion
        except ValueError as error:
            faults.append(f"{path}:{number}: {error}")
    if faults:
        raise BrokenLines(path, faults)
    return {id: [here[number] for number in sorted(here)] for id, here in found.items()}


def unknown(id: str) -> str:
    """What is wrong with a line of an id that is not in the data."""
    return f"id {shorten(id)} is not in the data; check that both belong"


def repeated(id: str, number: int) -> str:
    """What is wrong with the later of two lines of one completion."""
    again = f", number {number}," if number else ""
    return f"id {shorten(id)}{again} occurs a second time; predict a row once"


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers from 1."""
    try:
        with open_regular(path) as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    yield number, line
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a predictions file") from None


def read_line(line: bytes) -> Completion:
    """Read one line of a predictions file.

    A line of ours bears a key, and its text is whole already. What the prompt of another ended in
    is not known: ``tvr.answer.whole`` says how its text tells.

    Raises:
        ValueError: it is broken; the text says how, in one line of bounded length.
    """
    try:
        # As json.loads does it for UTF-8, which it would find out by itself, slowly.
        plain = line.startswith(b'{"')
        row = json.loads(line.decode("utf-8", "surrogatepass") if plain else line)
    except (ValueError, RecursionError):
        raise ValueError(f"not JSON: {_excerpt(line)}; write one object a line") from None
    if not isinstance(row, dict):
        raise ValueError('not an object; write {"id": ..., "completion": ...}')
    for field in ("id", "completion"):
        if field not in row:
            raise ValueError(f"no field {field!r}; write id and completion")
    for field, kind in _FIELDS.items():
        if field in row and type(value := row[field]) is not kind:
            wanted = "a string" if kind is str else "an integer"
            raise ValueError(f"field {field!r} holds a {type(value).__name__}; write {wanted}")
    text, number = row["completion"], row.get("number", 0)
    status = row.get("status", "answered" if text and not text.isspace() else "empty")
    if status not in STATUSES:
        raise ValueError(f"status {shorten(status)} is not one of {', '.join(STATUSES)}")
    if not 0 <= number < MOST_COMPLETIONS:
        raise ValueError(f"number {shorten(str(number))}: write 0 to K - 1")
    more = (row.get("key", ""), row.get("error", ""))
    tokens = (row.get("prompt_tokens", 0), row.get("completion_tokens", 0))
    said = text if row.get("key") else whole(text)
    return Completion(row["id"], said, number, status, *more, *tokens)


_FIELDS: Final[dict[str, type]] = {
    "id": str,
    "completion": str,
    "number": int,
    "status": str,
    "key": str,
    "error": str,
    "prompt_tokens": int,
    "completion_tokens": int,
}


def shorten(text: str) -> str:
    """A text of a file in a message: quoted, on one line, the start of it where it is long.

    >>> print(shorten("left" + chr(10) + "right"))
    'left\\nright'
    """
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def _excerpt(line: bytes) -> str:
    # Of four bytes each at most; the replacement of what is no UTF-8 is one character a byte.
    return shorten(line[: 4 * _SHOWN_CHARACTERS + 4].rstrip(b"\r\n").decode("utf-8", "replace"))
