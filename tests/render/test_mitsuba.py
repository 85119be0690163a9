"""Pictures repeat exactly, agree with the mask, and tell materials, sizes and colors apart."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from star_r1.errors import UserError
from star_r1.render import engine
from star_r1.render.cameras import Camera
from star_r1.render.mitsuba import MitsubaRenderer
from star_r1.render.visibility import boxes, instance_mask
from star_r1.tvr import STANDARD_RIG, Object, Rig, Scene
from star_r1.tvr.vocabulary import N_OBJECTS, VALUES, VIEWS, Vocabulary, camera_position

SIZE = (160, 120)
HIDDEN = tuple(Object(i, "red", "cube", "large", "rubber", (40, 40)) for i in range(N_OBJECTS))
BALL = Object(0, "cyan", "sphere", "large", "rubber", (0, 0))


def scene_of(*things: Object) -> Scene:
    objects = list(HIDDEN)
    for thing in things:
        objects[thing.index] = thing
    return Scene(tuple(objects))


CROWD = scene_of(
    Object(0, "blue", "cube", "large", "glass", (-12, -8), 0.4),
    Object(1, "red", "sphere", "medium", "metal", (6, -6)),
    Object(4, "yellow", "cylinder", "medium", "rubber", (2, 10), 1.0),
    Object(9, "gray", "cube", "small", "metal", (16, 2), 2.0),
)


@pytest.fixture(scope="module")
def renderer() -> MitsubaRenderer:
    return MitsubaRenderer(SIZE, 8)


def distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The largest difference of a channel, at each pixel."""
    return np.abs(one.astype(int) - other.astype(int)).max(-1)


def test_two_fresh_processes_give_equal_bytes() -> None:
    program = (
        "import hashlib; from star_r1.render.mitsuba import MitsubaRenderer;"
        "from star_r1.tvr import STANDARD_RIG, Scene;"
        f"scene = Scene.from_json({CROWD.to_json()!r});"
        f"image = MitsubaRenderer({SIZE}, 8).render(scene, STANDARD_RIG, 'left');"
        "print(hashlib.sha256(image.tobytes()).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    here = MitsubaRenderer(SIZE, 8).render(CROWD, STANDARD_RIG, "left")
    assert runs[0].stdout.strip() == hashlib.sha256(here.tobytes()).hexdigest()


def test_the_order_of_pictures_does_not_matter(renderer: MitsubaRenderer) -> None:
    first = renderer.render(CROWD, STANDARD_RIG, "center")
    other = renderer.render(scene_of(BALL), STANDARD_RIG, "right")
    assert np.array_equal(renderer.render(CROWD, STANDARD_RIG, "center"), first)
    assert np.array_equal(renderer.render(scene_of(BALL), STANDARD_RIG, "right"), other)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("index", [0, 1, 4, 9])
def test_an_object_changes_the_pixels_of_its_mask(
    renderer: MitsubaRenderer, view: str, index: int
) -> None:
    without = Scene(tuple(HIDDEN[index] if o.index == index else o for o in CROWD.objects))
    changed = distance(
        renderer.render(CROWD, STANDARD_RIG, view), renderer.render(without, STANDARD_RIG, view)
    )
    mask = instance_mask(CROWD, STANDARD_RIG, view, SIZE) == index
    assert np.mean(changed[mask] > 8) > 0.9
    # Shadows and reflections reach farther, but are weaker and do not fill the picture.
    assert changed[mask].mean() > 5 * changed[~mask].mean()


@pytest.mark.parametrize("view", VIEWS)
def test_a_sphere_covers_exactly_its_mask(renderer: MitsubaRenderer, view: str) -> None:
    # Yellow rubber against the grey floor: blue is low on the object alone.
    thing = replace(BALL, color="yellow", position=(3, -6))
    image = renderer.render(scene_of(thing), STANDARD_RIG, view).astype(int)
    yellow = image[..., 0] - image[..., 2] > 45
    mask = instance_mask(scene_of(thing), STANDARD_RIG, view, SIZE) == 0
    assert np.sum(yellow & mask) / np.sum(yellow | mask) > 0.93


@pytest.mark.parametrize("attribute", ["color", "shape", "size", "material"])
def test_every_value_gives_a_different_object(renderer: MitsubaRenderer, attribute: str) -> None:
    mask = instance_mask(scene_of(BALL), STANDARD_RIG, "center", SIZE) == 0
    images = [
        renderer.render(scene_of(replace(BALL, **{attribute: value})), STANDARD_RIG, "center")
        for value in VALUES[attribute]
    ]
    for i, one in enumerate(images):
        for other in images[:i]:
            assert distance(one, other)[mask].mean() > 8


def test_hidden_objects_are_not_drawn(renderer: MitsubaRenderer) -> None:
    elsewhere = replace(HIDDEN[5], position=(-30, 21), color="yellow", material="glass")
    one = renderer.render(scene_of(BALL), STANDARD_RIG, "center")
    assert np.array_equal(renderer.render(scene_of(BALL, elsewhere), STANDARD_RIG, "center"), one)


def test_glass_casts_a_neutral_shadow_as_dark_as_any(renderer: MitsubaRenderer) -> None:
    ball = replace(BALL, color="yellow")
    floor, rubber, glass = (
        renderer.render(scene_of(*things), STANDARD_RIG, "center").astype(float)
        for things in ([], [ball], [replace(ball, material="glass")])
    )
    outside = instance_mask(scene_of(ball), STANDARD_RIG, "center", SIZE) != 0
    shadow = outside & ((floor - rubber).max(-1) > 30)
    assert shadow.sum() > 50
    dark, light = ((floor - image)[shadow].mean(0) for image in (rubber, glass))
    assert np.all(light > 0.8 * dark)  # rubber reflects some light into it
    assert np.ptp(light) < 6  # as in TRANCE's pictures, yellow glass does not tint it


@pytest.mark.parametrize("material", ["metal", "glass"])
def test_a_ball_mirrors_a_lamp(renderer: MitsubaRenderer, material: str) -> None:
    # The point that faces halfway between the camera and the back lamp shows the lamp.
    ball = replace(BALL, color="gray", material=material)
    image = renderer.render(scene_of(ball), STANDARD_RIG, "center").astype(int)
    middle = np.array([0.0, 0.0, 0.9])
    camera = Camera.of(STANDARD_RIG, "center", SIZE)
    ways = [np.array(place) - middle for place in (camera.origin, STANDARD_RIG.lamps["back"])]
    half = sum(way / np.linalg.norm(way) for way in ways)
    column, row = camera.project([middle + 0.9 * half / np.linalg.norm(half)])[0].astype(int)
    around = image[row - 2 : row + 3, column - 2 : column + 3].mean(-1)
    mask = instance_mask(scene_of(ball), STANDARD_RIG, "center", SIZE) == 0
    assert around.max() > np.median(image[mask].mean(-1)) + 80


def test_colors_and_sizes_are_those_of_the_scenes_vocabulary(renderer: MitsubaRenderer) -> None:
    vocabulary = Vocabulary(
        colors={"red": (20, 220, 30), "ink": (5, 5, 5)}, sizes={"tiny": 0.2, "large": 1.1}
    )
    rest = [replace(one, size="tiny") for one in HIDDEN[1:]]
    scene = Scene((replace(BALL, color="red"), *rest), vocabulary)
    mask = instance_mask(scene, STANDARD_RIG, "center", SIZE) == 0
    red, green, blue = renderer.render(scene, STANDARD_RIG, "center")[mask].mean(0)
    assert green > 2 * max(red, blue)
    # The same names mean TRANCE's values in another scene.
    standard = scene_of(replace(BALL, color="red"))
    smaller = instance_mask(standard, STANDARD_RIG, "center", SIZE) == 0
    red, green, blue = renderer.render(standard, STANDARD_RIG, "center")[smaller].mean(0)
    assert red > 1.5 * max(green, blue)
    assert mask.sum() > 1.3 * smaller.sum()


@pytest.mark.parametrize("view", ["top", "az90", "az180"])
def test_other_views_show_objects_in_their_boxes(renderer: MitsubaRenderer, view: str) -> None:
    cameras = {**STANDARD_RIG.cameras, view: camera_position(view)}
    rig = Rig(cameras, STANDARD_RIG.lamps)
    yellow = scene_of(replace(BALL, color="yellow", position=(10, -8)))
    image = renderer.render(yellow, rig, view).astype(int)
    rows, columns = np.nonzero(image[..., 0] - image[..., 2] > 40)
    x0, y0, x1, y1 = boxes(instance_mask(yellow, rig, view, SIZE))[0]
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.abs(np.subtract(found, (x0, y0, x1, y1))).max() <= 3


def test_the_lamps_light_the_floor_but_are_not_seen(renderer: MitsubaRenderer) -> None:
    lamps = {**STANDARD_RIG.lamps, "back": (-3.0, 0.0, 1.0)}
    rig = Rig(STANDARD_RIG.cameras, lamps)
    image = renderer.render(scene_of(), rig, "center").astype(int)
    camera = Camera.of(rig, "center", SIZE)
    column, row = camera.project([lamps["back"]])[0].astype(int)
    # Its square, one unit wide, would be a white box of about 13 pixels.
    assert (
        distance(image[row, column - 3 : column + 4], image[row, column - 13 : column - 6]).max()
        < 25
    )
    usual = renderer.render(scene_of(), STANDARD_RIG, "center").astype(int)
    assert abs(image - usual).max() > 20


def test_the_floor_is_as_bright_as_trances_and_has_its_lines(renderer: MitsubaRenderer) -> None:
    image = renderer.render(scene_of(), STANDARD_RIG, "center").astype(float)
    # The mean floor of the 160 published pictures is 139.5, a neutral grey.
    assert 134 < image.mean() < 146
    assert np.ptp(image.mean((0, 1))) < 8
    camera = Camera.of(STANDARD_RIG, "center", SIZE)
    line, below = (camera.project([[x, 0, 0]])[0, 1] for x in (3.0, 3.5))
    grey = image[:, 60:100].mean((1, 2))
    assert grey[int(line)] > grey[int(below)] + 2


@pytest.mark.parametrize(("size", "samples"), [((8, 120), 8), ((160, 120), 0)])
def test_impossible_settings_are_refused(size: tuple[int, int], samples: int) -> None:
    with pytest.raises(UserError, match="at least 16 pixels a side and 1 sample"):
        MitsubaRenderer(size, samples)


@pytest.mark.parametrize("missing", ["mitsuba", "mitsuba_oidn", "drjit"])
def test_a_missing_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"star-r1\[render\]"):
        engine.load()


def test_ctrl_c_before_the_denoiser_leaves_nothing_behind() -> None:
    """In a real process, which would say at its end what leaked."""
    program = (
        "import numpy as np; from star_r1.render.mitsuba import MitsubaRenderer\n"
        "from star_r1.tvr import STANDARD_RIG, Scene\n"
        "def interrupted(*_, **__): raise KeyboardInterrupt\n"
        "np.pad = interrupted\n"
        "try:\n"
        f"    scene = Scene.from_json({CROWD.to_json()!r})\n"
        f"    MitsubaRenderer({SIZE}, 1).render(scene, STANDARD_RIG, 'left')\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("interrupted\n", "")


def test_ctrl_c_while_a_loop_is_recorded_is_ctrl_c(
    renderer: MitsubaRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(renderer, "_meet", interrupted)
        with pytest.raises(KeyboardInterrupt):
            renderer.render(scene_of(BALL), STANDARD_RIG, "center")
    assert renderer.render(scene_of(BALL), STANDARD_RIG, "center").shape == (120, 160, 3)
