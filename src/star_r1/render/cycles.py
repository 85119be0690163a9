"""Renders scenes with Blender's Cycles, the renderer that TRANCE used, in a child process.

Blender is under the GPL and 370 MB large, so it is no part of this package and none of its code is
loaded here: ``blender_child`` runs in a process of its own, in whatever Python has ``bpy``, hears
JSON and answers with PNG.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any, Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from star_r1.errors import UserError
from star_r1.render import studio
from star_r1.render.cameras import Camera
from star_r1.render.visibility import BACKGROUND, Mask, centre, half_height
from star_r1.tvr.scene import Rig, Scene
from star_r1.tvr.vocabulary import CAMERA_FOV_X, N_OBJECTS

INTERPRETER_VARIABLE: Final = "STAR_R1_BLENDER_PYTHON"
"""Environment variable: the Python to run Blender in, where ``bpy`` is not installed in ours."""

TRANCE_SAMPLES: Final = 512
"""Light paths in each pixel of TRANCE's pictures."""

Denoise: TypeAlias = Literal["no", "fast", "best"]
"""Intel's denoiser, which comes with Blender: as fast as it can, or as well (Blender's default)."""

_SCRIPT = Path(__file__).with_name("blender_child.py")
_PATIENCE = 10.0  # seconds that the child has for leaving
_LONGEST_LINE = 65536


class CyclesRenderer:
    """Draws scenes as TRANCE did, in Blender; like ``MitsubaRenderer``, but a hundred times slower.

    One thread, one child process, which ends with ``close``, with the ``with`` block, or with this
    process, however that ends. Where nothing is denoised, the same input gives the same bytes on
    the same kind of CPU; a denoised picture differs by a grey level in a few pixels from process to
    process, since Blender's denoiser rounds by where things lie in memory.

    ::

        with CyclesRenderer((320, 240), 16) as renderer:
            image = renderer.render(scene, rig, "center")
    """

    def __init__(
        self,
        size: tuple[int, int] = (320, 240),
        samples_per_pixel: int = TRANCE_SAMPLES,
        denoise: Denoise | None = None,
    ) -> None:
        """Start Blender, which takes a second or two.

        Args:
            size: width, height of the pictures in pixels, each at least 16.
            samples_per_pixel: light paths in each pixel, at least 1.
            denoise: as TRANCE does, from its 512 samples on the picture is left as it is; with
                fewer it is denoised ("best").

        Raises:
            UserError: a number is out of range, or there is no Blender.
        """
        studio.check_picture(size, samples_per_pixel)
        self.size = size
        self.samples_per_pixel = samples_per_pixel
        self.denoise = denoise or ("no" if samples_per_pixel >= TRANCE_SAMPLES else "best")
        self._child = _Child(find_interpreter())
        self.blender: str = self._child.ask(self._studio()).get("blender", "")

    def render(self, scene: Scene, rig: Rig, view: str) -> NDArray[np.uint8]:
        """The picture of ``scene`` from camera ``view`` of ``rig``.

        Returns:
            sRGB, uint8, shape (height, width, 3).

        Raises:
            KeyError: the rig lacks the view.
            UserError: Blender failed.
        """
        return self._draw(scene, rig, view, mask=False)

    def mask(self, scene: Scene, rig: Rig, view: str) -> Mask:
        """The index of the object that each pixel centre shows, ``BACKGROUND`` where there is none.

        Blender's own ``visibility.instance_mask``: that of the meshes which ``render`` draws.

        Returns:
            uint8, shape (height, width).

        Raises:
            KeyError: the rig lacks the view.
            UserError: Blender failed.
        """
        grey = self._draw(scene, rig, view, mask=True)[..., 0]
        return np.where(grey == 0, BACKGROUND, grey - 1).astype(np.uint8)

    def close(self) -> None:
        """End Blender. Nothing can be drawn after."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _studio(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "samples_per_pixel": self.samples_per_pixel,
            "denoise": self.denoise,
            "objects": N_OBJECTS,
            "field_of_view": CAMERA_FOV_X,
            "lamps": {name: lamp._asdict() for name, lamp in studio.LAMPS.items()},
            "toward_sun": studio.TOWARD_SUN,
            "sun_irradiance": studio.SUN_IRRADIANCE,
            "sun_angle": studio.SUN_ANGLE,
            "line_at": studio.LINE_AT,
        }

    def _draw(self, scene: Scene, rig: Rig, view: str, mask: bool) -> NDArray[np.uint8]:
        camera = Camera.of(rig, view, self.size)
        pose = np.eye(4)  # Blender's cameras look along their -z, with y up in the picture
        pose[:3] = np.stack([camera.right, -camera.down, -camera.forward, camera.origin], axis=1)
        vocabulary = scene.vocabulary
        objects = [
            {
                "index": thing.index,
                "shape": thing.shape,
                "material": thing.material,
                # TRANCE uses the 0-255 numbers as linear reflectance.
                "color": [value / 255 for value in vocabulary.colors[thing.color]],
                "centre": centre(thing, vocabulary),
                "half": half_height(thing, vocabulary),
                "rotation": thing.rotation,
            }
            for thing in scene.visible
        ]
        task = {"camera": pose.tolist(), "lamps": rig.lamps, "objects": objects, "mask": mask}
        png = self._child.ask(task).get("png", b"")
        try:
            with Image.open(io.BytesIO(png)) as picture:
                image = np.array(picture.convert("RGB"))
        except (UnidentifiedImageError, OSError):
            raise self._child.failed("it sent no picture") from None
        if image.shape != (self.size[1], self.size[0], 3):
            raise self._child.failed(f"it sent a picture of shape {image.shape}")
        return image


def find_interpreter() -> str:
    """The Python to run Blender in: that of ``INTERPRETER_VARIABLE``, else ours if it has ``bpy``.

    Raises:
        UserError: neither is there.
    """
    named = os.environ.get(INTERPRETER_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise UserError(
                f"{INTERPRETER_VARIABLE} is {named!r}, which is no program; "
                "name the Python of an environment that has bpy"
            )
        return found
    if importlib.util.find_spec("bpy") is None:
        raise UserError(
            "Cycles needs Blender (bpy), not found here; with Python 3.11, install "
            "'star-r1[cycles]', or install bpy in an environment of its own and name its Python "
            f"in the environment variable {INTERPRETER_VARIABLE}"
        )
    return sys.executable


class _Child:
    """The process that runs ``blender_child``."""

    def __init__(self, interpreter: str) -> None:
        self._interpreter = interpreter
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (_end closes it)
        folder = tempfile.mkdtemp(prefix="star-r1-blender-")
        try:
            # -P: modules beside the script would shadow Blender's own, such as its "cycles".
            self._process = subprocess.Popen(
                [interpreter, "-P", str(_SCRIPT), folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                # Blender leaves a folder of its own behind: in ours it goes with it.
                env={**os.environ, "TMPDIR": folder, "TEMP": folder},
            )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(f"cannot run {interpreter}: {error.strerror}") from None
        self.close = weakref.finalize(self, _end, self._process, self._errors, folder)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one line; the line that answers, with the bytes behind it as ``png``."""
        if not self.close.alive:
            raise ValueError("this renderer is closed")
        say, hear = _pipes(self._process)
        try:
            say.write(json.dumps(request).encode() + b"\n")
            say.flush()
        except OSError:  # it has ended; what it said before tells why
            pass
        line = hear.readline(_LONGEST_LINE)
        if not line:
            raise self.failed(f"it ended with status {self._process.wait()}")
        try:
            answer = dict(json.loads(line))
            length = int(answer.get("bytes", 0))
        except (ValueError, TypeError):
            raise self.failed(f"it said {line[:60]!r}") from None
        if "error" in answer:
            raise self.failed(str(answer["error"]))
        answer["png"] = hear.read(length)
        if len(answer["png"]) < length:
            raise self.failed(f"it ended with status {self._process.wait()} in a picture")
        return answer

    def failed(self, what: str) -> UserError:
        """What to raise where the child is of no use any more; ends it."""
        said = self._last_words()
        self.close()
        return UserError(
            f"Blender failed: {what}{f' ({said})' if said and said not in what else ''}; "
            f"see whether this works: {self._interpreter} -c 'import bpy'"
        )

    def _last_words(self) -> str:
        """The last line on the child's stderr, of the errors if there are some."""
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"\w*Error\b", line)]
        return (errors or lines or [""])[-1][:200]


def _end(process: subprocess.Popen[bytes], errors: IO[bytes], folder: str) -> None:
    """End the child, which leaves when its stdin is closed. Runs when this process ends at last."""
    say, hear = _pipes(process)
    with contextlib.suppress(OSError):  # what it did not read is of no use
        say.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    hear.close()
    errors.close()
    shutil.rmtree(folder, ignore_errors=True)


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Its stdin and stdout."""
    assert process.stdin
    assert process.stdout
    return process.stdin, process.stdout
