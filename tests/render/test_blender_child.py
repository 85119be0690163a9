"""What Blender draws: the same bytes in any process, TRANCE's own pictures, and no longer life than
that of the process that asked for it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from star_r1.errors import UserError
from star_r1.render.cycles import CyclesRenderer, find_interpreter
from star_r1.render.visibility import instance_mask
from star_r1.tvr import STANDARD_RIG, Object, Rig, Scene
from star_r1.tvr.vocabulary import N_OBJECTS

pytestmark = pytest.mark.cycles

SIZE = (160, 120)
REAL = Path(__file__).parents[3] / "shared" / "trance_sample"
HIDDEN = tuple(Object(i, "red", "cube", "large", "rubber", (40, 40)) for i in range(N_OBJECTS))
BALL = Object(0, "cyan", "sphere", "large", "rubber", (0, 0))


@pytest.fixture(scope="module", autouse=True)
def _blender() -> None:
    try:
        find_interpreter()
    except UserError:
        pytest.skip("Blender is not here")


@pytest.fixture(scope="module")
def renderer(_blender: None) -> Iterator[CyclesRenderer]:
    with CyclesRenderer(SIZE, 32, "no") as opened:
        yield opened


def scene_of(*things: Object) -> Scene:
    objects = list(HIDDEN)
    for thing in things:
        objects[thing.index] = thing
    return Scene(tuple(objects))


CROWD = scene_of(
    Object(0, "blue", "cube", "large", "glass", (-12, -8), 0.4),
    Object(1, "red", "sphere", "medium", "metal", (6, -6)),
    Object(2, "green", "sphere", "large", "glass", (-4, 6)),
    Object(4, "yellow", "cylinder", "medium", "rubber", (2, 16), 1.0),
    Object(9, "gray", "cube", "small", "metal", (16, 2), 2.0),
)


def test_any_process_and_any_order_give_the_same_bytes_where_nothing_is_denoised() -> None:
    tasks = [(CROWD, "center"), (scene_of(BALL), "left"), (CROWD, "right"), (CROWD, "center")]

    def draw(order: list[tuple[Scene, str]]) -> list[bytes]:
        with CyclesRenderer(SIZE, 2, "no") as one:
            return [one.render(scene, STANDARD_RIG, view).tobytes() for scene, view in order]

    assert draw(tasks) == draw(tasks[::-1])[::-1]


# Of a picture the mask is the outline of the meshes. Those of TRANCE have round edges, of the cube
# above all; visibility.py knows sharp ones.
@pytest.mark.parametrize(("shape", "lost"), [("sphere", 0.005), ("cylinder", 0.03), ("cube", 0.12)])
@pytest.mark.parametrize("view", ["center", "left", "right"])
def test_masks_have_the_right_place_and_size(
    renderer: CyclesRenderer, shape: str, lost: float, view: str
) -> None:
    scene = scene_of(replace(BALL, index=3, shape=shape, position=(-6, 11), rotation=0.4))
    sharp = instance_mask(scene, STANDARD_RIG, view, SIZE) == 3
    mask = renderer.mask(scene, STANDARD_RIG, view)
    assert set(np.unique(mask)) == {3, 255}
    assert np.sum((mask == 3) & ~sharp) <= 1
    assert np.sum(sharp & (mask != 3)) <= lost * sharp.sum() + 1


def test_hidden_objects_are_not_drawn(renderer: CyclesRenderer) -> None:
    elsewhere = replace(HIDDEN[5], position=(-30, 21), color="yellow", material="glass")
    one = renderer.render(scene_of(BALL), STANDARD_RIG, "center")
    assert np.array_equal(renderer.render(scene_of(BALL, elsewhere), STANDARD_RIG, "center"), one)


@pytest.mark.parametrize(
    ("sample", "camera", "lamps"),
    [
        (
            8,
            (9.75, 0.13, 6.78),
            {"key": (6.47, -3.31, 4.57), "fill": (-5.72, -4.15, 6.0), "back": (-1.79, 2.83, 6.14)},
        ),
        (
            12,
            (9.77, -0.13, 6.22),
            {"key": (6.97, -2.93, 3.55), "fill": (-3.57, -4.41, 5.53), "back": (-0.98, 2.82, 6.05)},
        ),
    ],
)
def test_published_pictures_come_out_alike(
    renderer: CyclesRenderer,
    sample: int,
    camera: tuple[float, float, float],
    lamps: dict[str, tuple[float, float, float]],
) -> None:
    # Camera and lamps were fitted to the floor of the picture: TRANCE does not publish them.
    if not REAL.exists():
        pytest.skip("the real samples are not here")
    from PIL import Image

    with Image.open(REAL / "image" / f"img_{sample:06d}-init.C.png") as file:
        real = np.array(file.convert("RGB")).astype(float)
    rows = json.loads((REAL / "data.json").read_text())[sample]["states"][0]["objects"]
    scene = Scene(
        tuple(
            Object(i, **{**row, "position": tuple(row["position"])}) for i, row in enumerate(rows)
        )
    )
    rig = Rig({**STANDARD_RIG.cameras, "center": camera}, lamps)
    ours = renderer.render(scene, rig, "center").astype(float)
    mask = instance_mask(scene, rig, "center", SIZE)
    floor = mask == 255
    assert abs(np.median(ours[floor] - real[floor])) <= 1
    for thing in scene.visible:
        shown = mask == thing.index
        if shown.sum() > 150 and thing.shape != "cube":  # how cubes are turned is not known
            assert abs(ours[shown].mean(0) - real[shown].mean(0)).max() < 8, thing


PARENT = """
import sys
from star_r1.render.cycles import CyclesRenderer
from star_r1.tvr import STANDARD_RIG, Scene
renderer = CyclesRenderer((320, 240), 100_000, "no")
print(renderer.blender, flush=True)
if sys.argv[1] == "busy":
    renderer.render(Scene.from_json(sys.argv[2]), STANDARD_RIG, "center")
sys.stdin.read()
"""


@pytest.mark.parametrize("doing", ["busy", "idle"])
def test_blender_does_not_outlive_a_killed_parent(tmp_path: Path, doing: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, doing, CROWD.to_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        assert parent.stdout
        assert parent.stdout.readline()
        time.sleep(1.5)
        assert list(tmp_path.iterdir())
    finally:
        parent.kill()
        parent.wait()
    # The last thing that Blender's process does is to remove its folder.
    end = time.monotonic() + 20
    while list(tmp_path.iterdir()):
        assert time.monotonic() < end, "it is still there"
        time.sleep(0.05)


@pytest.mark.parametrize(("samples", "denoise"), [(511, "best"), (512, "no")])
def test_what_has_fewer_samples_than_trance_is_denoised(samples: int, denoise: str) -> None:
    with CyclesRenderer(SIZE, samples) as one:
        assert one.denoise == denoise


def test_a_closed_renderer_draws_no_more() -> None:
    with CyclesRenderer(SIZE, 1) as one:
        process = one._child._process
    assert process.returncode == 0
    with pytest.raises(ValueError, match="closed"):
        one.render(CROWD, STANDARD_RIG, "center")


def test_a_blender_that_dies_is_a_user_error() -> None:
    with CyclesRenderer(SIZE, 1) as one:
        one._child._process.kill()
        with pytest.raises(UserError, match="Blender failed: it ended with status -9"):
            one.render(CROWD, STANDARD_RIG, "center")
