"""The pictures that are compared: drawn by either renderer and kept, or TRANCE's real ones."""

import ast
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from star_r1.errors import UserError
from star_r1.files import write_atomic
from star_r1.progress import progress
from star_r1.render import studio
from star_r1.render.visibility import count_pixels
from star_r1.tvr import STANDARD_RIG, Object, Rig, Scene, SceneRules, draw_sample

Picture = NDArray[np.uint8]

SIZE: Final = (160, 120)
"""Width, height of TRANCE's published pictures."""
VIEW_CYCLE: Final = ("center", "center", "left", "right")
"""TRANCE publishes four pictures a sample: initial center, final center, left and right."""
CAMERAS: Final = {"Camera_Center": "center", "Camera_Left": "left", "Camera_Right": "right"}
"""TRANCE's name of a camera -> ours."""


RENDERERS: Final = ("mitsuba", "cycles")
SAMPLES_PER_PIXEL: Final = {"mitsuba": 16, "cycles": 32}
"""Light paths in each pixel, before either renderer's denoiser; 16 is the default of ours."""
_THEIR_OWN: Final = {"mitsuba": ("mitsuba",), "cycles": ("cycles", "blender")}
"""How the modules in ``star_r1.render`` that serve one renderer alone begin."""


class Renderer(Protocol):
    """What both renderers can do."""

    def render(self, scene: Scene, rig: Rig, view: str) -> Picture:
        """The picture of a scene, sRGB, shape (height, width, 3)."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: a scene from one camera.

    Attributes:
        sample: pictures of one sample resemble each other; intervals are drawn by sample.
        scene, rig, view: what the picture shows. Of a real picture the rig and the rotations are
            unknown: they are those without jitter, and 0.
        file: the real picture; None for one that a renderer draws.
    """

    sample: int
    scene: Scene
    rig: Rig
    view: str
    file: Path | None = None

    def digest(self) -> str:
        """Names the picture in a cache."""
        text = "\n".join((self.scene.to_json(), self.rig.to_json(), self.view))
        return hashlib.sha256(text.encode()).hexdigest()[:24]


class ShotList(NamedTuple):
    """Which pictures are drawn: the dataset's seed, how many, fewest and most visible objects."""

    seed: int
    pictures: int
    visible: tuple[int, int]


def drawn_shots(wanted: ShotList) -> list[Shot]:
    """One picture a scene, in TRANCE's proportion of views, jitter included."""
    rules = SceneRules(visible=wanted.visible, changes=(1, 1))
    samples = (draw_sample(wanted.seed, i, count_pixels, rules) for i in range(wanted.pictures))
    return [
        Shot(index, sample.initial, sample.rig, VIEW_CYCLE[index % len(VIEW_CYCLE)])
        for index, sample in enumerate(samples)
    ]


def real_shots(folder: Path) -> list[Shot]:
    """Every picture of a folder in TRANCE's published layout (data.json, image/), 160 x 120.

    Raises:
        UserError: the folder or a file is absent, or does not hold what it should.
    """
    source = folder / "data.json"
    try:
        rows = json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot read {source}: {error.strerror}; name a folder in TRANCE's published layout "
            "(data.json, image/) by --real"
        ) from None
    except ValueError as error:
        raise UserError(f"{source} is not JSON: {error}") from None
    shots = []
    try:
        for row in rows:
            for state in row["states"]:
                scene = Scene(tuple(_object(i, raw) for i, raw in enumerate(state["objects"])))
                for camera, name in state["images"].items():
                    file = folder / "image" / Path(name).name
                    shots.append(Shot(row["idx"], scene, STANDARD_RIG, CAMERAS[camera], file))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source} is not in TRANCE's published layout: {error!r}") from None
    return shots


def _object(index: int, raw: Any) -> Object:
    x, y = raw["position"]
    return Object(index, raw["color"], raw["shape"], raw["size"], raw["material"], (x, y))


def read_real(shot: Shot) -> Picture:
    """The pixels of a real picture, without its alpha.

    Raises:
        UserError: it cannot be read, or has another size than TRANCE's.
    """
    try:
        with Image.open(str(shot.file)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise UserError(f"cannot read {shot.file}: {error}") from None
    if pixels.shape != (SIZE[1], SIZE[0], 3):
        raise UserError(f"{shot.file} is not {SIZE[0]} x {SIZE[1]} pixels")
    return pixels


def draw(name: str, shots: Sequence[Shot], cache: Path) -> list[Picture]:
    """The pictures of ``shots`` by renderer ``name``, from the cache where they are in it.

    The cache is keyed by the renderer's code, so that it never hands out an older look.

    Raises:
        UserError: the renderer is not installed, or the cache cannot be written.
    """
    folder = cache / f"{name}-{SAMPLES_PER_PIXEL[name]}spp-{_code_digest(name)}"
    files = [folder / f"{shot.digest()}.png" for shot in shots]
    missing = [(shot, file) for shot, file in zip(shots, files, strict=True) if not file.exists()]
    if missing:
        renderer = _renderer(name)
        title = f"Drawing with {name}"
        with progress(title, len(shots), "pictures", len(shots) - len(missing)) as advance:
            for shot, file in missing:
                buffer = io.BytesIO()
                picture = renderer.render(shot.scene, shot.rig, shot.view)
                Image.fromarray(picture).save(buffer, "PNG")
                write_atomic(file, buffer.getvalue())
                advance()
    return [np.asarray(Image.open(file)) for file in files]


def _renderer(name: str) -> Renderer:
    if name == "mitsuba":
        from star_r1.render.mitsuba import MitsubaRenderer

        return MitsubaRenderer(SIZE, SAMPLES_PER_PIXEL[name])
    from star_r1.render.cycles import CyclesRenderer

    return CyclesRenderer(SIZE, SAMPLES_PER_PIXEL[name])


def _code_digest(name: str) -> str:
    """A hash of what a renderer's modules do, without their comments and docstrings."""
    other = _THEIR_OWN["cycles" if name == "mitsuba" else "mitsuba"]
    digest = hashlib.sha256(repr(SIZE).encode())
    for module in sorted(Path(studio.__file__).parent.glob("*.py")):
        if not module.name.startswith(other):
            digest.update(ast.dump(_without_docstrings(module)).encode())
    return digest.hexdigest()[:12]


def _without_docstrings(module: Path) -> ast.Module:
    tree = ast.parse(module.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                line
                for line in body
                if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            ]
    return tree
