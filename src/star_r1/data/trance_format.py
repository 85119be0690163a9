"""One sample of TRANCE's files <-> ours: read with every check, and written."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from star_r1.data.intake import Flaw, check_name, short
from star_r1.tvr.change import Change, replay
from star_r1.tvr.rules import move_options, move_type
from star_r1.tvr.sample import Sample
from star_r1.tvr.scene import Object, Rig, Scene
from star_r1.tvr.vocabulary import ATTRIBUTES, N_OBJECTS, TRANCE, VIEWS

CAMERAS: Final = {view: f"Camera_{view.title()}" for view in VIEWS}
"""Our name of a camera -> TRANCE's."""
LAMPS: Final = {"key": "Lamp_Key", "fill": "Lamp_Fill", "back": "Lamp_Back"}
"""Our name of a lamp -> TRANCE's."""
MAX_INDEX: Final = 10**9
"""No ``idx`` is as great."""
IMAGE_NAME: Final = re.compile(r"img_(\d{6,9})-", re.ASCII)
"""Names of pictures begin with the number of their sample: ``img_000012-fin.L.png``."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One sample as TRANCE has it, checked but for its pictures.

    Attributes:
        index: ``idx``, 0 or greater.
        initial: the ten objects; vocabulary ``TRANCE``.
        changes: all steps in order; moves out of sight with their ``options``.
        images: ``initial``, and each view that it has -> name of the picture.
        rig: cameras and lamps; None where the file does not say (``data.jsonl``).
    """

    index: int
    initial: Scene
    changes: tuple[Change, ...]
    images: dict[str, str]
    rig: Rig | None


def net_changes(scene: Scene, changes: Iterable[Change]) -> tuple[Change, ...]:
    """Changes of looks as a set.

    Of an (object, attribute) that changes twice only the last one, and that only if it ends as
    something else than it was.

    >>> from star_r1.tvr import parse_changes
    >>> row = [Object(i, "red", "cube", "small", "metal", (0, 8 * i - 36)) for i in range(10)]
    >>> steps = parse_changes("0.color.blue, 1.color.blue, 0.color.cyan, 1.color.red")
    >>> [str(change) for change in net_changes(Scene(tuple(row)), steps)]
    ['0.color.cyan']
    """
    last = {(change.index, change.attribute): change for change in changes}
    return tuple(
        change
        for (index, attribute), change in last.items()
        if scene.objects[index].attribute(attribute) != change.value
    )


def read_entry(raw: Any) -> Entry:
    """Check one line of ``data.jsonl`` or ``data_renderable.jsonl``, or one item of a JSON list.

    That the fields are there and hold known values; that the transformations, replayed, give
    every later state exactly, hidden objects included; that moves have the type that they are
    said to have; that ``options`` hold the value and all that would do as well, nothing else.
    Fields that it does not know are not looked at.

    Raises:
        Flaw: the first thing that is wrong.

    Source: the files of TRANCE (Hong et al., CVPR 2021) and the script that merges them.
    """
    entry = _of(raw, dict, "line")
    index = _field(entry, "idx", int, "")
    if not 0 <= index < MAX_INDEX:
        raise Flaw("idx", f"{index} is not in 0-{MAX_INDEX - 1}")
    steps = _field(entry, "transformations", list, "")
    if not steps:
        raise Flaw("transformations", "there is none")
    states = _field(entry, "states", list, "")
    if len(states) not in (2, len(steps) + 1):
        raise Flaw("states", f"{len(states)} of them, not 2 or {len(steps) + 1}")
    initial = _scene(states[0], "states[0]")
    scene, changes = initial, []
    for n, step in enumerate(steps):
        change, scene = _step(step, f"transformations[{n}]", scene)
        changes.append(change)
        if len(states) > 2 or n == len(steps) - 1:
            place = len(states) - 1 if len(states) == 2 else n + 1
            _compare(_scene(states[place], f"states[{place}]"), scene, f"states[{place}]")
    images = _images(index, states)
    return Entry(index, initial, tuple(changes), images, _rig(entry))


def _step(raw: Any, where: str, scene: Scene) -> tuple[Change, Scene]:
    """One transformation, and the scene after it."""
    step = _of(raw, dict, where)
    attribute = _field(step, "attr", str, where)
    if attribute not in TRANCE.attributes:
        _unknown(f"{where}.attr", attribute, TRANCE.attributes)
    index = _field(step, "obj_idx", int, where)
    if not 0 <= index < N_OBJECTS:
        raise Flaw(f"{where}.obj_idx", f"{index} is not in 0-{N_OBJECTS - 1}")
    value = _value(step.get("val"), attribute, f"{where}.val")
    change = Change(index, attribute, value)
    before = scene.objects[index].position
    try:
        after = replay(scene, [change])
    except ValueError as error:
        raise Flaw(f"{where}.val", str(error)) from None
    options = [
        _value(option, attribute, f"{where}.options[{n}]")
        for n, option in enumerate(_field(step, "options", list, where))
    ]
    equals = move_options(scene, change) or (value,)
    if sorted(options) != sorted(equals):
        raise Flaw(
            f"{where}.options",
            f"are {', '.join(options) or 'none'}; as good as {value}, itself included, are "
            f"{', '.join(equals)}",
        )
    if attribute == "position":
        kind = move_type(before, after.objects[index].position)
        if kind is None:
            raise Flaw(f"{where}.val", f"{value} moves from {before}, hidden, to a hidden place")
        if step.get("type") != kind:
            raise Flaw(f"{where}.type", f"{short(step.get('type'))}, but the move is {kind!r}")
        if kind == "out":
            change = Change(index, attribute, value, equals)
    return change, after


def _value(raw: Any, attribute: str, where: str) -> str:
    """A value of an attribute; that of a move is ``[direction, steps]``."""
    value = raw
    if attribute == "position" and isinstance(raw, list) and len(raw) == 2:
        value = f"{raw[0]}.{raw[1]}" if type(raw[1]) is int else raw
    if not isinstance(value, str) or value not in TRANCE.values(attribute):
        known = TRANCE.values(attribute) if attribute != "position" else ("[direction, 1 or 2]",)
        _unknown(where, raw, known)
    return value


def _scene(raw: Any, where: str) -> Scene:
    objects = _field(_of(raw, dict, where), "objects", list, where)
    if len(objects) != N_OBJECTS:
        raise Flaw(f"{where}.objects", f"{len(objects)} of them, not {N_OBJECTS}")
    return Scene(
        tuple(_object(n, thing, f"{where}.objects[{n}]") for n, thing in enumerate(objects)), TRANCE
    )


def _object(index: int, raw: Any, where: str) -> Object:
    thing = _of(raw, dict, where)
    values = {name: _value(thing.get(name), name, f"{where}.{name}") for name in ATTRIBUTES}
    position = _field(thing, "position", list, where)
    if len(position) != 2 or not all(type(x) is int for x in position):
        raise Flaw(f"{where}.position", f"{short(position)} is not two whole numbers")
    rotation = thing.get("rotation", 0.0)
    if type(rotation) not in (int, float):
        raise Flaw(f"{where}.rotation", f"{short(rotation)} is not a number")
    try:
        return Object(
            index, **values, position=(position[0], position[1]), rotation=float(rotation)
        )
    except (ValueError, OverflowError) as error:
        raise Flaw(where, str(error)) from None


def _compare(said: Scene, replayed: Scene, where: str) -> None:
    for a, b in zip(said.objects, replayed.objects, strict=True):
        for name in (*ATTRIBUTES, "position", "rotation"):
            if getattr(a, name) != getattr(b, name):
                raise Flaw(
                    f"{where}.objects[{a.index}].{name}",
                    f"{getattr(a, name)}, but the transformations give {getattr(b, name)}",
                )


def _images(index: int, states: Sequence[Any]) -> dict[str, str]:
    """``initial`` and each view -> name of the picture; no two may be of one name."""
    first = _field(states[0], "images", dict, "states[0]")
    last_at = f"states[{len(states) - 1}]"
    last = _field(states[-1], "images", dict, last_at)
    places = {"initial": (first, CAMERAS["center"], "states[0]")}
    places |= {view: (last, CAMERAS[view], last_at) for view in VIEWS if CAMERAS[view] in last}
    names: dict[str, str] = {}
    for key, (images, camera, where) in places.items():
        field = f"{where}.images.{camera}"
        name = check_name(images.get(camera), field)
        if name in names.values():
            raise Flaw(field, f"{name} is another picture of this sample as well")
        names[key] = name
    return names


def _rig(entry: Mapping[str, Any]) -> Rig | None:
    if "cameras" not in entry and "lamps" not in entry:
        return None
    places = {
        group: {ours: _field(entry, group, dict, "").get(theirs) for ours, theirs in names.items()}
        for group, names in (("cameras", CAMERAS), ("lamps", LAMPS))
    }
    try:
        return Rig.from_json(json.dumps(places))
    except ValueError as error:
        raise Flaw("cameras, lamps", str(error)) from None


def _of(value: Any, kind: type, where: str) -> Any:
    if type(value) is not kind:
        names = {dict: "an object", list: "a list", int: "a whole number", str: "text"}
        raise Flaw(where, f"{short(value)} is not {names[kind]}")
    return value


def _field(raw: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    place = f"{where}.{name}" if where else name
    if name not in raw:
        raise Flaw(place, "is missing")
    return _of(raw[name], kind, place)


def _unknown(where: str, value: Any, known: Sequence[str]) -> NoReturn:
    raise Flaw(where, f"{short(value)} is not one of {', '.join(known)}")


def image_name(index: int, view: str | None = None) -> str:
    """TRANCE's name of a picture: the initial one of a sample, or the final one from a view.

    >>> image_name(12), image_name(12, "left")
    ('img_000012-init.C.png', 'img_000012-fin.L.png')
    """
    return f"img_{index:06d}-{f'fin.{view[0].upper()}' if view else 'init.C'}.png"


def to_entry(index: int, sample: Sample, views: Sequence[str], renderable: bool) -> dict[str, Any]:
    """A sample as a line of ``data.jsonl`` or ``data_renderable.jsonl``; JSON, in TRANCE's order.

    Args:
        index: its ``idx``.
        sample: of TRANCE's values; its view does not count.
        views: that there are pictures of, some of TRANCE's three.
        renderable: write also rotations, all scenes in between, cameras and lamps.
    """
    scenes = [sample.initial]
    steps = []
    for change in sample.changes:
        options = change.options or move_options(scenes[-1], change) or (change.value,)
        scenes.append(replay(scenes[-1], [change]))
        step = {
            "obj_idx": change.index,
            "attr": change.attribute,
            "val": _raw(change, change.value),
            "options": [_raw(change, option) for option in options],
        }
        if change.attribute == "position":
            before, after = (scene.objects[change.index].position for scene in scenes[-2:])
            step["type"] = move_type(before, after)
        steps.append(step)
    fields = ["color", "material", "shape", "size", "position"] + ["rotation"] * renderable
    states: list[dict[str, Any]] = [
        {
            "objects": [{name: getattr(o, name) for name in fields} for o in scene.objects],
            "images": {},
        }
        for scene in (scenes if renderable else (scenes[0], scenes[-1]))
    ]
    states[0]["images"] = {CAMERAS["center"]: image_name(index)}
    states[-1]["images"] = {CAMERAS[view]: image_name(index, view) for view in views}
    entry = {"idx": index, "states": states, "transformations": steps}
    if renderable:
        entry["lamps"] = {LAMPS[name]: place for name, place in sample.rig.lamps.items()}
        entry["cameras"] = {CAMERAS[view]: sample.rig.cameras[view] for view in VIEWS}
    return entry


def _raw(change: Change, value: str) -> str | list[str | int]:
    if change.attribute != "position":
        return value
    direction, _, steps = value.partition(".")
    return [direction, int(steps)]
