"""Sampler + renderer -> parquet shards, in parallel, resumable, the same bytes every time."""

import atexit
import functools
import io
import json
import multiprocessing
import multiprocessing.synchronize
import os
import re
import signal
import threading
from collections.abc import Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from star_r1.data.card import COUNTED, write_card
from star_r1.data.dataset import FEATURES, count_rows, read_columns
from star_r1.errors import UserError
from star_r1.files import write_atomic
from star_r1.progress import progress
from star_r1.render.visibility import count_pixels
from star_r1.tvr.change import format_changes
from star_r1.tvr.prompt import build_prompt
from star_r1.tvr.sampler import SceneRules, draw_sample
from star_r1.tvr.vocabulary import REFERENCE_SIZE, VIEWS

if TYPE_CHECKING:
    from star_r1.render.mitsuba import MitsubaRenderer

Row: TypeAlias = dict[str, Any]

SHARD_SAMPLES: Final = 64
"""Samples in one file: an interrupted run loses at most these."""
MIN_SIDE, MAX_SIDE = 28, 4096
"""Pixels of a picture's width and height."""
MAX_SAMPLES_PER_PIXEL: Final = 512
"""What TRANCE was rendered with, without a denoiser."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the bytes of a dataset depend on; kept in its ``generate.json``.

    Raises:
        UserError: a value is out of its range.
    """

    samples: int
    seed: int
    size: tuple[int, int] = REFERENCE_SIZE
    views: tuple[str, ...] = VIEWS
    rules: SceneRules = field(default_factory=SceneRules)
    split: str = "train"
    samples_per_pixel: int = 16

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"samples {self.samples}: give 1 or a greater number")
        if self.seed < 0:
            raise UserError(f"seed {self.seed}: give 0 or a greater number")
        if not all(MIN_SIDE <= side <= MAX_SIDE for side in self.size):
            raise UserError(
                f"size {self.size[0]}x{self.size[1]}: give width x height in pixels, "
                f"each {MIN_SIDE}-{MAX_SIDE}"
            )
        if not 1 <= self.samples_per_pixel <= MAX_SAMPLES_PER_PIXEL:
            raise UserError(
                f"samples per pixel {self.samples_per_pixel}: give 1-{MAX_SAMPLES_PER_PIXEL}"
            )
        if not self.views or len(set(self.views)) < len(self.views) or set(self.views) - {*VIEWS}:
            raise UserError(
                f"views {','.join(self.views)!r}: name one or more of {','.join(VIEWS)}, each once"
            )
        if not re.fullmatch(r"\w+", self.split, re.ASCII):
            raise UserError(f"split {self.split!r}: use letters, digits and _, such as train, test")

    @property
    def shards(self) -> dict[str, range]:
        """Name of each shard -> the indices of its samples."""
        starts = range(0, self.samples, SHARD_SAMPLES)
        return {
            f"{self.split}-{n:05d}-of-{len(starts):05d}.parquet": range(
                start, min(start + SHARD_SAMPLES, self.samples)
            )
            for n, start in enumerate(starts)
        }

    def to_json(self) -> str:
        """Readable JSON, ending in a new line."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def to_command(self) -> str:
        """The command line that stands for these settings."""
        (few, many), (fewest, most) = self.rules.visible, self.rules.changes
        return (
            f"star-r1 generate --samples {self.samples} --seed {self.seed} "
            f"--size {self.size[0]}x{self.size[1]} --views {','.join(self.views)} \\\n"
            f"    --objects {few}-{many} --changes {fewest}-{most} "
            f"--split {self.split} --samples-per-pixel {self.samples_per_pixel} --out DIR"
        )


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
    """Draw and render a dataset: one row a (sample, view), the initial picture once a sample.

    Writes ``out/data/<split>-NNNNN-of-NNNNN.parquet``, ``out/README.md`` (the card, last) and
    ``out/generate.json`` (the settings, first). Every file appears whole. What an interrupted run
    left is kept, and the same call makes the rest. The bytes depend on all arguments but ``out``
    and ``workers``.

    Args:
        out: folder; new, empty, or holding an interrupted run of the same settings.
        samples: how many, 1 or more. The first samples do not depend on it.
        seed: of the scenes and changes, 0 or greater.
        size: width, height of the pictures in pixels, 28-4096.
        views: cameras of the final pictures; the scenes do not depend on them.
        rules: how many objects and changes; None for ``SceneRules()``.
        workers: processes that draw and render, each with one thread; 1 uses this process.
        split: name of the split.
        samples_per_pixel: light paths a pixel, before the denoiser; 1-512.

    Returns:
        The number of samples made by this call, 0 where the dataset was complete.

    Raises:
        UserError: a value out of range, ``out`` holds something else, cannot be written or is on
            a full disk, the renderer is not installed, a worker died.
    """
    settings = Settings(samples, seed, size, views, rules or SceneRules(), split, samples_per_pixel)
    if workers < 1:
        raise UserError(f"workers {workers}: give 1 or a greater number")
    _claim(out, settings)
    missing = {
        out / "data" / name: indices
        for name, indices in settings.shards.items()
        if count_rows(out / "data" / name) != len(indices) * len(views)
    }
    to_do = [index for indices in missing.values() for index in indices]
    with (
        progress("Rendering", samples, done=samples - len(to_do)) as advance,
        closing(_draw(settings, to_do, workers)) as drawn,
    ):
        for path, indices in missing.items():
            rows: list[Row] = []
            for _ in indices:
                rows += next(drawn)
                advance()
            write_atomic(path, _to_parquet(rows))
    card = out / "README.md"
    if missing or not card.exists():
        counted = read_columns(out, COUNTED)
        write_atomic(card, write_card(counted, split, settings.to_command()))
    return len(to_do)


def _claim(out: Path, settings: Settings) -> None:
    """Write the settings to ``out``, or see that those in it are the same."""
    path = out / "generate.json"
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise UserError(
                f"{out}: exists and is no dataset of star-r1; name a new or an empty folder"
            ) from None
        write_atomic(path, settings.to_json())
        return
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path}: not the JSON that 'star-r1 generate' writes; name another folder")
    for name, value in json.loads(settings.to_json()).items():
        if found.get(name) != value:
            raise UserError(
                f"{out}: holds a dataset with {name} {_inline(found.get(name))}, not "
                f"{_inline(value)}; give the same settings to finish it, or name another folder"
            )


def _inline(value: Any) -> str:
    return json.dumps(value)


def _draw(settings: Settings, indices: Iterable[int], workers: int) -> Generator[list[Row]]:
    """The rows of each sample, in the order of ``indices``."""
    if workers == 1:
        try:
            yield from map(functools.partial(_sample_rows, settings), indices)
        finally:
            _renderer.cache_clear()
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the renderer's threads
    stop = context.Event()
    with ProcessPoolExecutor(workers, context, _start_worker, (stop,)) as pool:
        try:
            yield from pool.map(functools.partial(_sample_rows, settings), indices)
        except BrokenProcessPool:
            raise UserError(
                "a worker process died, perhaps for lack of memory; run the same command again "
                "with fewer --workers, finished shards are kept"
            ) from None
        finally:
            stop.set()


_stop: multiprocessing.synchronize.Event | None = None
"""In a worker: set once nobody waits for its samples any more."""


def _start_worker(stop: multiprocessing.synchronize.Event) -> None:
    global _stop
    _stop = stop
    # Ctrl-C reaches every process of the terminal; the main one decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Left to the end of the process, the denoiser reports itself as leaked on stderr.
    atexit.register(_renderer.cache_clear)
    # The main process may be killed with no time to say so: do not outlive it.
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _sample_rows(settings: Settings, index: int) -> list[Row]:
    """Draw and render one sample: a row a view."""
    if _stop is not None and _stop.is_set():
        return []
    renderer = _renderer(settings.size, settings.samples_per_pixel)
    sample = draw_sample(settings.seed, index, count_pixels, settings.rules)
    rig, final = sample.rig, sample.final
    picture = _png(renderer.render(sample.initial, rig, "center"))
    pixels = count_pixels(sample.initial, rig, "center")
    rows = []
    for view in settings.views:
        seen = sample.seen_from(view)
        images = (picture, _png(renderer.render(final, rig, view)))
        rows.append(
            {
                "id": seen.id,
                "images": [{"bytes": image, "path": None} for image in images],
                "prompt": build_prompt(seen),
                "answer": format_changes(seen.changes),
                "view": view,
                "initial": seen.initial.to_json(),
                "final": final.to_json(),
                "changes": _compact([asdict(change) for change in seen.changes]),
                "rig": rig.to_json(),
                "pixels": _compact({"initial": pixels, "final": count_pixels(final, rig, view)}),
            }
        )
    return rows


@functools.lru_cache(maxsize=1)
def _renderer(size: tuple[int, int], samples_per_pixel: int) -> "MitsubaRenderer":
    from star_r1.render.mitsuba import MitsubaRenderer

    return MitsubaRenderer(size, samples_per_pixel)


def _png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _to_parquet(rows: list[Row]) -> bytes:
    """One row group. The features of ``datasets`` are in its metadata, so that pictures decode."""
    buffer = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema),
        buffer,
        compression="zstd",
        compression_level=3,
        # All that can alter the bytes is said here, not left to a default. The dictionary holds
        # the initial picture, which is in the row of every view, once.
        use_dictionary=True,
        dictionary_pagesize_limit=1 << 30,
        row_group_size=len(rows),
        write_statistics=False,
        version="2.6",
        data_page_version="1.0",
    )
    return buffer.getvalue()
