"""A dataset folder -> files that other people's code reads: TRANCE's, Reason-RFT's, plain JSON."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from star_r1.data.dataset import FEATURES, count_rows, read_columns, row_to_sample, shards
from star_r1.data.intake import claim
from star_r1.data.manifest import digest
from star_r1.data.names import sample_name
from star_r1.data.pictures import MAX_BYTES, check_pictures, plain_files
from star_r1.data.reason_rft import to_calls, to_tuples
from star_r1.data.trance_format import CAMERAS, image_name, to_entry
from star_r1.errors import UserError
from star_r1.files import growing, leads_out, read_regular, write_atomic
from star_r1.progress import progress
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import UNKNOWN_RIG
from star_r1.tvr.vocabulary import TRANCE

Group: TypeAlias = "list[tuple[dict[str, Any], Sample]]"
"""All rows of one sample, one a view, each with what it says."""

_SETTINGS: Final = "export.json"
_MAX_CARD: Final = 1 << 20
"""Bytes of the card of a dataset."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to."""

    samples: int
    rows: int


def export(form: str, data: Path, out: Path, views: Sequence[str] | None = None) -> Exported:
    """Write a dataset in another form; ``README.md`` there says what each file is.

    Pictures are taken over byte for byte. Every file appears whole; the same call goes on after
    an interruption. Memory holds one shard.

    ``trance``: ``data.jsonl``, ``data_renderable.jsonl`` (where cameras and lamps are known) and
    ``image/`` as TRANCE is published: ``star-r1 import trance`` reads the same rows back, and
    TRANCE's preprocessing and loaders read it.

    ``reason-rft``: ``data.json`` as Reason-RFT has its TRANCE part, and ``image/``. Of a move it
    says the direction only.

    ``jsonl``: ``data.jsonl``, one row a line, and ``image/``: for trainers that read JSON lines.

    Args:
        form: one of ``FORMS``.
        data: dataset folder.
        out: folder; new, empty, or of an interrupted export with the same settings.
        views: only the rows whose final picture is from one of these; None takes all.

    Raises:
        UserError: ``data`` cannot be read or has what this form cannot say, ``out`` holds
            something else or cannot be written.
    """
    if form not in FORMS:
        raise UserError(f"format {form!r}: choose from {', '.join(FORMS)}")
    settings = {"format": form, "sha256": fingerprint(data), "views": views and list(views)}
    claim(out / _SETTINGS, settings, "export", begun=True)
    for old in out.rglob(".*.tmp"):  # of an export that was killed
        old.unlink(missing_ok=True)
    write, about = FORMS[form]
    total = sum(count_rows(path) or 0 for path in shards(data))
    samples = rows = 0
    with ExitStack() as stack:
        advance = stack.enter_context(progress("Exporting", total, unit="rows"))
        put = write(out, stack)
        for group in _groups(data):
            kept = [(row, sample) for row, sample in group if not views or sample.view in views]
            if kept:
                put(kept)
                samples += 1
                rows += len(kept)
            advance(len(group))
        if not rows:
            raise UserError(f"{data}: no row has one of the views {','.join(views or ())}")
    write_readme(out, about, data)
    return Exported(samples, rows)


Writer: TypeAlias = Callable[[Path, ExitStack], Callable[[Group], None]]
"""Of an output folder: opens its files on the stack; what it gives takes one sample at a time."""


def _write_trance(out: Path, stack: ExitStack) -> Callable[[Group], None]:
    plain = stack.enter_context(_lines(out / "data.jsonl"))
    full = stack.enter_context(_lines(out / "data_renderable.jsonl"))

    def put(group: Group) -> None:
        (first, sample), *_ = group
        views = [sample.view for _, sample in group]
        if unknown := [view for view in views if view not in CAMERAS]:
            raise UserError(
                f"row {sample.seen_from(unknown[0]).id}: TRANCE has no view {unknown[0]}; "
                f"name others by --views, such as {','.join(CAMERAS)}"
            )
        if replace(sample.vocabulary, attributes=TRANCE.attributes) != TRANCE:
            raise UserError(f"row {sample.id}: has colors, sizes, ... that TRANCE does not have")
        if sample.rig == UNKNOWN_RIG:
            raise UserError(f"row {sample.id}: nobody knows where its objects are, TRANCE asks it")
        index = _number(sample)
        views.sort(key=list(CAMERAS).index)
        plain.write(json.dumps(to_entry(index, sample, views, False)) + "\n")
        if first["pixels"] == "{}":
            full.discard()  # an import without cameras, lamps and rotations
        full.write(json.dumps(to_entry(index, sample, views, True)) + "\n")
        for row, seen in group:
            names = (image_name(index), image_name(index, seen.view))
            save_pair(row, [out / "image" / name for name in names])

    return put


def _write_reason_rft(out: Path, stack: ExitStack) -> Callable[[Group], None]:
    file = stack.enter_context(_lines(out / "data.json", "[", "\n]\n"))
    separator = itertools.chain(("\n",), itertools.repeat(",\n"))

    def put(group: Group) -> None:
        for row, sample in group:
            if sample.view not in CAMERAS:
                raise UserError(
                    f"row {sample.id}: Reason-RFT has no view {sample.view}; name others by "
                    f"--views, such as {','.join(CAMERAS)}"
                )
            index = _number(sample)
            names = [image_name(index), image_name(index, sample.view)]
            moves = "position" in sample.vocabulary.attributes
            listed = sample.initial.objects if moves else sample.initial.visible
            answer = to_calls(sample.changes)
            line = {
                "id": sample.id,
                "image": names,
                "problem": f"The attributes of the initial objects are {to_tuples(listed)}.",
                "answer": answer,
                "solution": answer,
                "type": sample.view,
            }
            file.write(next(separator) + json.dumps(line))
            save_pair(row, [out / "image" / name for name in names])

    return put


def _write_jsonl(out: Path, stack: ExitStack) -> Callable[[Group], None]:
    file = stack.enter_context(_lines(out / "data.jsonl"))

    def put(group: Group) -> None:
        for row, sample in group:
            images = picture_names(sample.id, "image")
            line = {
                "id": sample.id,
                "images": images,
                "messages": as_texts(row["prompt"]),
                "solution": row["answer"],
                "view": sample.view,
                "initial": json.loads(row["initial"]),
                "final": json.loads(sample.final.to_json()),
                "changes": json.loads(row["changes"]),
            }
            file.write(json.dumps(line) + "\n")
            save_pair(row, [out / path for path in images])

    return put


def as_texts(prompt: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The column ``prompt`` as messages of text, ``<image>`` where a picture goes."""
    return [
        {"role": message["role"], "content": "".join(map(_text, message["content"]))}
        for message in prompt
    ]


def _text(part: Mapping[str, Any]) -> str:
    return "<image>" if part["type"] == "image" else str(part["text"])


def _groups(data: Path) -> Iterator[Group]:
    """The rows of each sample, which follow each other."""
    seen = set()
    rows = ((row, row_to_sample(row)) for row in read_columns(data, list(FEATURES)))
    for name, group in itertools.groupby(rows, lambda item: sample_name(item[1].id)):
        members = list(group)
        if name in seen or len({check_pictures(row)[0] for row, _ in members}) > 1:
            raise UserError(
                f"{data}: the rows of sample {name} are not together, or differ in their initial "
                "picture; export a dataset that star-r1 wrote"
            )
        seen.add(name)
        yield members


def _number(sample: Sample) -> int:
    name = sample_name(sample.id)
    if not (name.isascii() and name.isdigit() and len(name) <= 9):
        raise UserError(f"row {sample.id}: this format needs ids that begin with a number")
    return int(name)


def picture_names(id: str, folder: str) -> list[str]:
    """Where the two pictures of a row go: the initial one is that of all views of its sample.

    >>> picture_names("000012-left", "image")
    ['image/000012-initial.png', 'image/000012-left.png']
    """
    return [f"{folder}/{sample_name(id)}-initial.png", f"{folder}/{id}.png"]


def save_pair(row: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """Write the two pictures of a row as files, unless they are there.

    Raises:
        UserError: a picture cannot be used, or its file is that of another one.
    """
    for path, (content, _) in zip(paths, plain_files(row), strict=True):
        _save(path, content, row["id"])


def _save(path: Path, content: bytes, id: str) -> None:
    try:
        # What an interrupted export has written is whole, and of the same dataset.
        there = read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        write_atomic(path, content)
        return
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name another folder") from None
    if there != content:
        raise UserError(
            f"row {id!r}: its picture {path.name} is there already and another one; give "
            "the rows ids of the form NUMBER-VIEW, and one initial picture to a number"
        )


class _Discarded(Exception):
    """A file is not wanted after all."""


class _Lines:
    """A text file that appears when it is complete."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.wanted = file, True

    def write(self, text: str) -> None:
        if self.wanted:
            self._file.write(text.encode())

    def discard(self) -> None:
        """Do without this file."""
        self.wanted = False


@contextmanager
def _lines(path: Path, start: str = "", end: str = "") -> Iterator[_Lines]:
    with suppress(_Discarded), growing(path) as file:
        lines = _Lines(file)
        lines.write(start)
        yield lines
        lines.write(end)
        if not lines.wanted:
            raise _Discarded


def fingerprint(data: Path) -> str:
    """SHA-256 of the shards of a dataset as they are, whatever its manifest says."""
    return digest(shards(data))


def write_readme(out: Path, about: str, data: Path) -> None:
    """Say in ``out/README.md`` what the files are, and of which dataset: its card is taken over."""
    write_atomic(out / "README.md", f"{about}\n{_ORIGIN}{_body(_card(data))}")


def _card(data: Path) -> str:
    path = data / "README.md"
    try:
        return "" if leads_out(path, data) else read_regular(path, _MAX_CARD).decode()
    except (OSError, ValueError):  # there need not be one
        return ""


def _body(card: str) -> str:
    """A card without its YAML header."""
    if card.startswith("---\n") and (end := card.find("\n---\n", 3)) >= 0:
        return card[end + 5 :]
    return card or "\nA dataset without a card.\n"


_ORIGIN: Final = """
Written by `star-r1 export`. Of the dataset that it was made from, its licence included, this is
the card:

---
"""

_ABOUT_TRANCE: Final = """\
# A dataset in the layout of TRANCE

- `data.jsonl`: one sample a line: `idx`, `states` (initial and final: ten `objects`, `images`),
  `transformations`.
- `data_renderable.jsonl`, where cameras and lamps are known: also the states in between,
  `rotation`, `cameras`, `lamps`.
- `image/`: `img_000012-init.C.png` the initial picture, seen from the center, and
  `img_000012-fin.L.png` the final one from the left (C center, R right).

`star-r1 import trance` reads it back. TRANCE's preprocessing makes `data.h5` from it: name its
splits by their sizes, and its loaders of Basic and Event need the center view, that of View all
three.
"""

_ABOUT_REASON_RFT: Final = """\
# A dataset as Reason-RFT has its TRANCE part

`data.json` is a list; the pictures are in `image/`. Each item has

- `id`,
- `image`: names of the initial and the final picture,
- `problem`: the initial objects as `(object_id, shape, size, color, material)`; the task itself is
  told by Reason-RFT's own prompt,
- `answer`, and the same as `solution`, which its RL reads: `change_color(3, cyan)`, ...; of a move
  the direction only, as there,
- `type`: view of the final picture, by which its scores are grouped.

There is no `cot`. `star-r1 import reason-rft` reads it back, but for moves and places.
"""

_ABOUT_JSONL: Final = """\
# A dataset as JSON lines

`data.jsonl` has a row a line; paths are relative to this folder. Each row has

- `id`, such as `000012-left`,
- `images`: paths of the initial and the final picture,
- `messages`: the prompt, a system and a user message as text; `<image>` stands where the pictures
  go, in the order of `images`,
- `solution`: the true changes, `2.color.cyan, 0.shape.cube`; to train on it, append
  `{"role": "assistant", "content": "<think>...</think><answer>SOLUTION</answer>"}`,
- `view`: camera of the final picture,
- `initial`, `final`: the ten objects, `changes`: the true changes, as in the card below, but JSON
  and not text.
"""

FORMS: Final[dict[str, tuple[Writer, str]]] = {
    "trance": (_write_trance, _ABOUT_TRANCE),
    "reason-rft": (_write_reason_rft, _ABOUT_REASON_RFT),
    "jsonl": (_write_jsonl, _ABOUT_JSONL),
}
"""Name of a form -> what writes it, what its ``README.md`` says."""
