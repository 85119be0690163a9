"""Sampler + renderer -> parquet shards, in parallel, resumable, the same bytes every time."""

import json
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from star_r1.data.card import Origin, write_card
from star_r1.data.counts import COUNTED, count
from star_r1.data.dataset import count_rows, read_columns
from star_r1.data.manifest import MANIFEST, write_manifest
from star_r1.data.settings import Settings, to_json, versions
from star_r1.data.shards import Row, to_parquet
from star_r1.data.workers import Crew, check_workers, open_crew
from star_r1.errors import UserError
from star_r1.files import leftovers, read_regular, write_atomic
from star_r1.progress import progress
from star_r1.tvr.rules import SceneRules
from star_r1.tvr.vocabulary import REFERENCE_SIZE, VIEWS, Vocabulary

SETTINGS: Final = "generate.json"
"""What a dataset is made from: the first file of its folder, and a config of ``generate``."""
CARD: Final = "README.md"
MAX_SETTINGS: Final = 1 << 20
"""Bytes of ``generate.json``."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a dataset.

    Attributes:
        path: within the folder.
        settings: of its split.
        indices: of its samples.
    """

    path: Path
    settings: Settings
    indices: range

    def whole(self, out: Path) -> bool:
        """Whether it is in the folder ``out``: files appear there as a whole or not at all."""
        return count_rows(out / self.path) == len(self.indices) * len(self.settings.views)


@dataclass(frozen=True, slots=True)
class Built:
    """What a call of ``build`` did.

    Attributes:
        made: samples that it drew and rendered.
        missing: shards that other parts have yet to make; at 0 the dataset is complete.
    """

    made: int
    missing: int


def generate(
    out: Path,
    samples: int,
    seed: int,
    size: tuple[int, int] = REFERENCE_SIZE,
    views: tuple[str, ...] = VIEWS,
    rules: SceneRules | None = None,
    workers: int = 1,
    split: str = "train",
    samples_per_pixel: int = 16,
) -> int:
    """Make a dataset of one split, of STAR-R1's setting; see ``build``.

    Args:
        out: folder; new, empty, or holding an interrupted run of the same settings.
        samples: as all others, a field of ``Settings``.
        seed: of the scenes and changes, 0 or greater.
        size: width, height of the pictures in pixels.
        views: cameras of the final pictures.
        rules: how many objects and changes; None for ``SceneRules()``.
        workers: processes that draw and render.
        split: name of the split.
        samples_per_pixel: light paths a pixel, before the denoiser.

    Returns:
        The number of samples made by this call, 0 where the dataset was complete.

    Raises:
        UserError: as ``build``.
    """
    settings = Settings(samples, seed, size, views, rules or SceneRules(), split, samples_per_pixel)
    return build(out, [settings], workers).made


def build(
    out: Path,
    splits: Sequence[Settings],
    workers: int = 1,
    part: tuple[int, int] = (1, 1),
    ray: str | None = None,
) -> Built:
    """Draw and render a dataset: one row a (sample, view), the initial picture once a sample.

    Writes ``out/generate.json`` (the settings, first), ``out/data/<split>-NNNNN-of-NNNNN.parquet``,
    ``out/README.md`` (the card) and ``out/manifest.json`` (last, once every shard of every part is
    there). Every file appears whole. What an interrupted run left is kept, and the same call makes
    the rest. The bytes depend on ``splits`` alone, given the same versions of the packages and the
    same kind of processor; but in Cycles' pictures a few pixels differ each time. Memory does not
    grow with the number of samples.

    Args:
        out: folder; new, empty, or holding an interrupted run of the same settings.
        splits: what to make, each of another name.
        workers: processes that draw and render, each with one thread; 1 uses this process.
        part: (i, n) makes the shards of the i-th of n parts, i from 1. Parts may run at the same
            time, on machines that share ``out``, each part in one place; the last one to end
            writes card and manifest.
        ray: address of a Ray cluster that does the work instead: ``auto``, ``host:port`` or
            ``ray://host:port``; ``local`` starts one here. The shards come back to this process,
            which alone writes. What a lost machine was to make is made again by another one.

    Raises:
        UserError: a value out of range, ``out`` holds something else, cannot be written or is on
            a full disk, the renderer is not installed, a worker died, the cluster is not there.
    """
    check_workers(workers)
    if ray is not None and workers > 1:
        raise UserError(f"workers {workers}: with --ray the cluster says how many; leave it out")
    if not 1 <= part[0] <= part[1]:
        raise UserError(f"shard {part[0]}/{part[1]}: give i/n with i from 1 to n, such as 1/4")
    made_with = _claim(out, splits)
    plan = [
        Shard(Path("data") / name, settings, indices)
        for settings in splits
        for name, indices in settings.shards.items()
    ]
    mine = plan[part[0] - 1 :: part[1]]
    _clean(out / "data", {shard.path.name for shard in mine})
    missing = [shard for shard in mine if not shard.whole(out)]
    to_do = sum(len(shard.indices) for shard in missing)
    if missing:
        _check_versions(out, made_with, versions(splits))
        _make(out, missing, sum(len(shard.indices) for shard in mine), workers, ray)
    absent = sum(not shard.whole(out) for shard in plan)
    if not absent:
        if part == (1, 1):  # another part may be writing these just now
            _clean(out, (CARD, MANIFEST, SETTINGS))
        if missing or not (out / CARD).exists() or not (out / MANIFEST).exists():
            _describe(out, splits)
    return Built(to_do, absent)


def _clean(folder: Path, names: Collection[str]) -> None:
    """Remove what writers of these files of a folder left that were killed."""
    for old in folder.glob(".*.tmp"):
        if old.name[1:].rsplit(".", 2)[0] in names:
            old.unlink(missing_ok=True)


def _check_versions(out: Path, begun: dict[str, str], now: dict[str, str]) -> None:
    for name in sorted({*begun, *now}):
        if (old := begun.get(name)) != (new := now.get(name)):
            raise UserError(
                f"{out}: was begun with {name} {old}, and here is {new}: the bytes would differ; "
                "install the former to finish it, or name another folder"
            )


def _describe(out: Path, splits: Sequence[Settings]) -> None:
    """Write the card, then the manifest."""
    folders = {s.split: out / s.split if len(splits) > 1 else out for s in splits}
    counts = {name: count(read_columns(path, COUNTED)) for name, path in folders.items()}
    origin = Origin(
        "TVR pairs rendered by star-r1",
        _about(splits),
        f"star-r1 generate --config {SETTINGS} --out DIR",
    )
    extras = {extra for settings in splits for extra in settings.extras}
    write_atomic(out / CARD, write_card(counts, origin, extras))
    write_manifest(out, json.loads((out / SETTINGS).read_bytes()))


def _about(splits: Sequence[Settings]) -> str:
    """What the card says of scenes and pictures."""
    lines = []
    for settings in splits:
        rules = settings.rules
        own = "" if _standard(rules.vocabulary) else ", of a vocabulary of its own"
        lines.append(
            f"- `{settings.split}`: seed {settings.seed}; {_span(rules.visible)} visible objects"
            f"{own}; {_span(rules.changes)} changes of {', '.join(rules.vocabulary.attributes)}; "
            f"pictures of {settings.size[0]}x{settings.size[1]} pixels by "
            f"{settings.renderer.capitalize()}, {settings.samples_per_pixel} light paths a pixel."
        )
    cycles = any(settings.renderer == "cycles" for settings in splits)
    return _ABOUT.format(splits="\n".join(lines), but=_BUT if cycles else "")


_ABOUT: Final = """\
Scenes, changes, cameras and lamps follow the rules of TRANCE (Hong et al., CVPR 2021); they are
drawn and the pictures rendered by star-r1.

{splits}

A sample is a function of seed, name of the split, its number and the settings: the first samples
are the same however many there are, the splits of one seed share none, and any slice can be made
anywhere. `generate.json` has all settings. The same versions of the packages, which it names, give
the same bytes on the same kind of processor, whatever the number of workers and machines{but}:"""
_BUT: Final = """ (but
for a few pixels of Cycles' denoised pictures, which differ by one grey level each time)"""


def _standard(vocabulary: Vocabulary) -> bool:
    return vocabulary == Vocabulary(attributes=vocabulary.attributes)


def _span(numbers: tuple[int, int]) -> str:
    return "-".join(map(str, dict.fromkeys(numbers)))


def _make(out: Path, missing: Sequence[Shard], total: int, workers: int, ray: str | None) -> None:
    to_do = sum(len(shard.indices) for shard in missing)
    with (
        progress("Rendering", total, done=total - to_do) as advance,
        open_crew(workers, ray) as crew,
    ):
        unfinished: dict[Path, dict[int, list[Row]]] = {}
        for shard, start, rows in _work_off(missing, crew):
            pieces = unfinished.setdefault(shard.path, {})
            pieces[start] = rows
            done = sum(map(len, pieces.values()))
            advance(len(rows) // len(shard.settings.views))
            if done == len(shard.indices) * len(shard.settings.views):
                ordered = [row for start in sorted(pieces) for row in pieces[start]]
                write_atomic(out / shard.path, to_parquet(ordered))
                del unfinished[shard.path]


def _work_off(shards: Sequence[Shard], crew: Crew) -> Iterator[tuple[Shard, int, list[Row]]]:
    """The rows of all pieces of ``shards`` as they come, with the first index of each piece.

    Only so many pieces are under way that the crew is never idle: neither they nor their rows pile
    up in memory.
    """
    pieces = (
        (shard, shard.indices[at : at + crew.piece])
        for shard in shards
        for at in range(0, len(shard.indices), crew.piece)
    )
    under_way: dict[Future[list[Row]], tuple[Shard, range]] = {}
    while True:
        while len(under_way) < crew.capacity() and (piece := next(pieces, None)):
            under_way[crew.submit(piece[0].settings, piece[1])] = piece
        if not under_way:
            return
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            shard, indices = under_way.pop(future)
            yield shard, indices.start, future.result()


def _claim(out: Path, splits: Sequence[Settings]) -> dict[str, str]:
    """Write the settings to ``out``, or see that those in it are the same.

    Returns:
        The versions of the packages that the dataset was begun with.
    """
    path, text = out / SETTINGS, to_json(splits)
    try:
        data = read_regular(path, MAX_SETTINGS)
    except (FileNotFoundError, NotADirectoryError):
        # Another part may be writing its settings just now, or was killed at it.
        if out.exists() and not (out.is_dir() and set(out.iterdir()) <= {*leftovers(path)}):
            raise UserError(
                f"{out}: exists and is no dataset of star-r1; name a new or an empty folder"
            ) from None
        write_atomic(path, text)
        data = text.encode()
    try:
        found = json.loads(data)
        there = {name: dict(options) for name, options in found["splits"].items()}
        made_with = dict(found["made_with"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(
            f"{path}: not the JSON that 'star-r1 generate' writes; name another folder"
        ) from None
    asked = json.loads(text)["splits"]
    if list(there) != list(asked):
        raise UserError(
            f"{out}: holds a dataset with split {' and '.join(there)}, not {' and '.join(asked)}; "
            "name another folder"
        )
    for split, options in asked.items():
        for key, value in options.items():
            if (old := there[split].get(key)) != value:
                raise UserError(
                    f"{out}: holds a dataset with {key} {json.dumps(old)}, not "
                    f"{json.dumps(value)}; give the same settings to finish it, or name another "
                    "folder"
                )
    return made_with
