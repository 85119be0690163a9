"""What a dataset is made from: read from flags and YAML, checked, written to ``generate.json``."""

import importlib.metadata
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from star_r1.data.names import MOST_SHARDS, SPLIT, name_fault
from star_r1.data.pictures import MAX_SIDE
from star_r1.errors import UserError
from star_r1.texts import harmless
from star_r1.tvr.rules import SceneRules
from star_r1.tvr.vocabulary import REFERENCE_SIZE, VIEWS, Vocabulary, camera_position
from star_r1.yaml_file import read_yaml

Options: TypeAlias = dict[str, Any]
"""Name of a flag of ``star-r1 generate``, without its hyphens -> its value."""

SHARD_SAMPLES: Final = 64
"""Samples in one file: an interrupted run loses at most as many a worker."""
MIN_SIDE: Final = 28
"""Pixels of a picture's width and height, at least."""
MAX_SAMPLES_PER_PIXEL: Final = 512
"""What TRANCE was rendered with, without a denoiser."""

RENDERERS: Final[dict[str, tuple[str, ...]]] = {
    "mitsuba": ("mitsuba", "drjit", "mitsuba-oidn", "karellen-llvm-core"),
    "cycles": ("bpy",),
}
"""Renderer -> the packages that its pictures depend on."""
EXTRAS: Final = ("masks", "boxes", "depth")
"""What ``with`` may ask for: each a column more."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the bytes of one split depend on, but for the versions of the packages.

    Attributes:
        samples: how many, 1 or more. The first samples do not depend on it.
        seed: of the scenes and changes, 0 or greater.
        size: width, height of the pictures in pixels, 28-4096.
        views: cameras of the final pictures, each gives a row: center, left, right, top, az0 to
            az359. Scenes and changes do not depend on them.
        rules: how many objects and changes, of what vocabulary; the extra views follow from
            ``views``.
        split: its name: letters, digits, ``_``. Splits of one seed have no scene in common.
        samples_per_pixel: light paths a pixel, before the denoiser; 1-512.
        renderer: one of ``RENDERERS``.
        extras: some of ``EXTRAS``.

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
    renderer: str = "mitsuba"
    extras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"samples {self.samples}: give 1 or a greater number")
        if self.samples > MOST_SHARDS * SHARD_SAMPLES:
            raise UserError(
                f"samples {self.samples}: give at most {MOST_SHARDS * SHARD_SAMPLES} in one split; "
                "make several splits, or datasets of several seeds"
            )
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
        if not self.views or len(set(self.views)) < len(self.views) or not _known(self.views):
            raise UserError(
                f"views {','.join(self.views)!r}: name one or more of {', '.join(VIEWS)}, top, "
                "az0 to az359, each once"
            )
        if name_fault(self.split) or not SPLIT.fullmatch(self.split):
            raise UserError(f"split {self.split!r}: use letters, digits and _, such as train, test")
        if self.renderer not in RENDERERS:
            raise UserError(f"renderer {self.renderer!r}: choose from {', '.join(RENDERERS)}")
        if set(self.extras) - {*EXTRAS}:
            raise UserError(f"with {','.join(self.extras)!r}: choose from {', '.join(EXTRAS)}")

    @property
    def scene_rules(self) -> SceneRules:
        """The rules, with a camera for every view."""
        extra = tuple(view for view in self.views if view not in VIEWS)
        return replace(self.rules, extra_views=extra)

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

    def to_options(self) -> Options:
        """All settings but the name of the split, as ``read_settings`` takes them."""
        return {
            "samples": self.samples,
            "seed": self.seed,
            "size": "{}x{}".format(*self.size),
            "views": list(self.views),
            "objects": "{}-{}".format(*self.rules.visible),
            "changes": "{}-{}".format(*self.rules.changes),
            "vocabulary": json.loads(self.rules.vocabulary.to_json()),
            "renderer": self.renderer,
            "samples-per-pixel": self.samples_per_pixel,
            "with": list(self.extras),
        }


def _known(views: Sequence[str]) -> bool:
    try:
        return all(map(camera_position, views))
    except ValueError:
        return False


def versions(splits: Sequence[Settings]) -> dict[str, str]:
    """The versions of all packages that the bytes of a dataset depend on, of those installed."""
    names = ["star-r1", "numpy", "pillow", "pyarrow", "datasets"]
    names += [name for split in splits for name in RENDERERS[split.renderer]]
    found = {}
    for name in dict.fromkeys(names):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # named when the renderer is asked for
    return found


def to_json(splits: Sequence[Settings]) -> str:
    """The text of ``generate.json``, which is a config as ``read_settings`` reads it."""
    options = {split.split: split.to_options() for split in splits}
    return json.dumps({"splits": options, "made_with": versions(splits)}, indent=1) + "\n"


def read_settings(flags: Mapping[str, Any], config: Path | None = None) -> tuple[Settings, ...]:
    """The splits that a command line asks for.

    A config is a YAML file whose keys are flags. Those under ``splits: NAME:`` are of one split,
    the others of all::

        size: 160x120
        objects: 2-5
        splits:
          train: {samples: 9000, views: center}
          test: {samples: 1000, views: [center, left, right]}

    ``vocabulary`` is a mapping, or the name of a YAML file that holds one, relative to the
    config::

        colors: {pink: [255, 180, 200], mint: [170, 240, 200]}  # linear reflectance, 0-255
        sizes: {tiny: 0.25, huge: 1.2}                          # radius in world units
        shapes: [cube, sphere]
        materials: [rubber, metal]

    What it leaves out is as in TRANCE.

    Args:
        flags: those given, without hyphens; they override the config in every split.
        config: the YAML file.

    Raises:
        UserError: a file cannot be read, or a value makes no sense; file and key are named.

    >>> (settings,) = read_settings({"samples": 3, "views": "left,top", "changes": "1-2"})
    >>> settings.views, settings.rules.changes
    (('left', 'top'), (1, 2))
    """
    raw = dict(read_yaml(config)) if config else {}
    raw.pop("made_with", None)
    splits = raw.pop("splits", None)
    if splits is None:
        splits = {flags.get("split", raw.pop("split", "train")): {}}
    elif not isinstance(splits, dict) or not splits:
        raise UserError(f"{config}: splits: give a mapping of at least one name to its settings")
    elif "split" in flags or "split" in raw:
        place = "--split" if "split" in flags else f"{config}: split"
        raise UserError(f"{place}: the splits are named under 'splits' of {config}")
    found = []
    for name, own in splits.items():
        if own is not None and not isinstance(own, dict):
            raise UserError(f"{config}: splits: {name}: give a mapping of settings")
        options: dict[str, tuple[str, Any]] = {}
        for source, prefix in (
            (raw, f"{config}: "),
            (own or {}, f"{config}: {name}: "),
            (flags, "--"),
        ):
            for key, value in source.items():
                if key != "split":
                    options[key] = (f"{prefix}{key}", value)
        found.append(_settings(str(name), options, config))
    return tuple(found)


def _settings(split: str, options: Mapping[str, tuple[str, Any]], config: Path | None) -> Settings:
    """The settings of one split; ``options`` are key -> where it was given, its value."""
    values: dict[str, Any] = {}
    for key, (place, value) in options.items():
        if key not in _READ:
            raise UserError(f"{place}: unknown; the keys are {', '.join(_READ)}")
        try:
            values[key] = _READ[key](value)
        except (ValueError, TypeError) as error:
            raise UserError(f"{place} {_short(value)}: {error}") from None
    place, _ = options.get("vocabulary", ("--vocabulary", None))
    folder = config.parent if config else Path()
    vocabulary = _vocabulary(values.get("vocabulary", {}), place, folder)
    if "attributes" in values:
        try:
            vocabulary = replace(vocabulary, attributes=values["attributes"])
        except ValueError as error:
            raise UserError(f"{options['attributes'][0]}: {error}") from None
    rules = {_RULES[key]: value for key, value in values.items() if key in _RULES}
    own = {_FIELDS[key]: value for key, value in values.items() if key in _FIELDS}
    try:
        if "samples" not in own:
            raise UserError("how many samples? Give --samples, or name them in a --config")
        return Settings(
            **{"seed": 0, **own}, split=split, rules=SceneRules(vocabulary=vocabulary, **rules)
        )
    except UserError as error:
        raise UserError(f"{config}: {split}: {error}" if config else str(error)) from None


def _vocabulary(value: str | Mapping[str, Any], place: str, folder: Path) -> Vocabulary:
    if isinstance(value, str):
        # A flag is relative to where it was typed.
        path = Path(value) if place.startswith("--") else folder / value
        value, place = read_yaml(path), str(path)
    try:
        return Vocabulary.from_dict(value)
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None


def _short(value: Any) -> str:
    return harmless(value if isinstance(value, str) else json.dumps(value, default=str), 60)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("give a whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("give a name")
    return value


def _text_or_mapping(value: Any) -> str | dict[str, Any]:
    return value if isinstance(value, dict) else _text(value)


def _names(value: Any) -> tuple[str, ...]:
    """``a,b`` or a list."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("give names, separated by commas")
    return tuple(name.strip() for name in names)


def _size(value: Any) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(value), re.ASCII)
    if not match:
        raise ValueError("give width x height in pixels, such as 320x240")
    return int(match[1]), int(match[2])


def _range(value: Any) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", str(value), re.ASCII)
    if not match:
        raise ValueError("give one number or fewest-most, such as 2-5")
    return int(match[1]), int(match[2] or match[1])


_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "samples": _whole,
    "seed": _whole,
    "size": _size,
    "views": _names,
    "objects": _range,
    "changes": _range,
    "attributes": _names,
    "vocabulary": _text_or_mapping,
    "renderer": _text,
    "samples-per-pixel": _whole,
    "with": _names,
}
"""Key of a config -> what reads its value."""
_RULES: Final = {"objects": "visible", "changes": "changes"}
"""Key of a config -> field of ``SceneRules``."""
_FIELDS: Final = {
    "samples": "samples",
    "seed": "seed",
    "size": "size",
    "views": "views",
    "renderer": "renderer",
    "samples-per-pixel": "samples_per_pixel",
    "with": "extras",
}
"""Key of a config -> field of ``Settings``."""
