"""Blender's side of ``--renderer cycles``: reads scenes from stdin, answers with PNG on stdout.

A script, run by ``cycles.CyclesRenderer`` in a Python that has ``bpy``, which may be another one
than that of the package: it imports ``bpy`` and the standard library, nothing of the project. The
first line of stdin is the studio (JSON), each further one a picture to draw. Each is answered by a
line of JSON, a picture's with its PNG bytes behind it. The process ends when stdin does, also in
the midst of a picture, and takes the folder that it was given for its temporary files with it.

Where things stand, how big they are, and the lamps come from there. What is said here are TRANCE's
meshes, materials and settings, which it made in Blender 2.79, as newer versions spell them. Where
its files leave something open, published pictures decided: 12 samples with few objects were drawn
again, their cameras and lamps fitted to the floor. The mean color of a rubber object then differs
by 0.7 of 255, of a metal one by 3.5, of a glass one by 1.9, of the floor by 0.3.
"""

import json
import math
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import bpy

# isort: split
# Parts of bpy, to be found once it is imported.
import bmesh
from mathutils import Matrix, Vector

# Fitted to published pictures, like what "published pictures" is written beside below.
_CUBE_BEVEL, _CYLINDER_BEVEL = 0.17, 0.04  # of the half edge or radius
_FLOOR_WIDTH, _FLOOR_END, _CURVE, _WALL_HEIGHT = 60.0, -15.0, 5.0, 23.0
_LINE_WIDTH, _LINE_HEIGHT, _LINE_RADIANCE = 0.012, 0.01, 0.5

_ROUND = 96  # corners of a circle
_BEVEL_SEGMENTS = 8


class Studio:
    """What stays from picture to picture: settings, floor, lamps, meshes, materials, ten slots."""

    def __init__(self, setup: dict[str, Any], folder: Path) -> None:
        """Build it from the first line of stdin; pictures pass through ``folder``."""
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self.setup = setup
        self.scene = bpy.context.scene
        self.picture = folder / "picture.png"
        self._set_up_engine()
        self.materials = {name: _material(name, graph) for name, graph in _GRAPHS.items()}
        self.stage = [self._place("floor", _floor(), "floor")]
        for mesh in _lines(setup["line_at"]):
            line = self._place("line", mesh, "line")
            line.visible_shadow = line.visible_diffuse = False
            self.stage.append(line)
        self.meshes = {"cube": _cube(), "sphere": _sphere(), "cylinder": _cylinder()}
        for mesh in self.meshes.values():
            mesh.materials.append(None)  # a slot, which each object fills for itself
        self.things = [self._thing(index) for index in range(setup["objects"])]
        self.lamps = {name: self._lamp(name, lamp) for name, lamp in setup["lamps"].items()}
        self._add_sun()
        self.camera = self._add_camera()

    def draw(self, task: dict[str, Any]) -> bytes:
        """The PNG of a picture; of a mask, whose grey is 0 for nothing, else 1 + index."""
        pose = Matrix(task["camera"])
        # Not matrix_world, which takes of equal rotations the one nearest to that before.
        self.camera.location, self.camera.rotation_euler = pose.to_translation(), pose.to_euler()
        for name, position in task["lamps"].items():
            self.lamps[name].location = position
            self.lamps[name].rotation_euler = _from(position)
        for thing in self.things:
            thing.hide_render = True
        for row in task["objects"]:
            thing = self.things[row["index"]]
            thing.hide_render = False
            thing.data = self.meshes[row["shape"]]
            thing.material_slots[0].link = "OBJECT"
            thing.material_slots[0].material = self.materials[row["material"]]
            thing.location = row["centre"]
            thing.scale = (row["half"],) * 3
            thing.rotation_euler = (0.0, 0.0, row["rotation"])
            thing.color = (*row["color"], 1.0)
        self._choose(task["mask"])
        bpy.ops.render.render(write_still=True)
        return self.picture.read_bytes()

    def _choose(self, mask: bool) -> None:
        """Settings in which a picture and a mask differ."""
        cycles = self.scene.cycles
        cycles.samples = 1 if mask else self.setup["samples_per_pixel"]
        cycles.filter_width = 0.01 if mask else 1.5  # 0.01: the ray of a pixel's centre
        cycles.use_denoising = not mask and self.setup["denoise"] != "no"
        self.scene.view_settings.view_transform = "Raw" if mask else "Standard"
        bpy.context.view_layer.material_override = self.materials["index"] if mask else None
        for part in self.stage:
            part.hide_render = mask

    def _set_up_engine(self) -> None:
        """TRANCE's settings, and those of 2.79 where newer defaults differ."""
        scene, render, cycles = self.scene, self.scene.render, self.scene.cycles
        render.engine = "CYCLES"
        render.resolution_x, render.resolution_y = self.setup["size"]
        render.resolution_percentage = 100
        render.threads_mode, render.threads = "FIXED", 1
        render.dither_intensity = 0.0
        render.image_settings.file_format = "PNG"
        render.image_settings.color_mode = "RGB"
        render.image_settings.compression = 0
        render.filepath = str(self.picture)
        scene.display_settings.display_device = "sRGB"
        scene.world = bpy.data.worlds.new("black")
        scene.world.color = (0.0, 0.0, 0.0)
        cycles.device = "CPU"
        cycles.seed = 0
        cycles.use_adaptive_sampling = False
        cycles.use_light_tree = False
        cycles.max_bounces = cycles.diffuse_bounces = cycles.glossy_bounces = 4
        cycles.transmission_bounces = 4
        cycles.transparent_max_bounces = 8
        cycles.blur_glossy = 2.0
        cycles.sample_clamp_direct = cycles.sample_clamp_indirect = 0.0
        cycles.denoiser = "OPENIMAGEDENOISE"
        fast = self.setup["denoise"] == "fast"
        cycles.denoising_quality = "FAST" if fast else "HIGH"
        cycles.denoising_prefilter = "NONE" if fast else "ACCURATE"

    def _place(self, name: str, data: Any, material: str | None = None) -> Any:
        thing = bpy.data.objects.new(name, data)
        self.scene.collection.objects.link(thing)
        if material is not None:
            data.materials.append(self.materials[material])
        return thing

    def _thing(self, index: int) -> Any:
        thing = self._place(f"object {index}", self.meshes["cube"])
        thing.pass_index = index + 1
        return thing

    def _lamp(self, name: str, lamp: dict[str, Any]) -> Any:
        data = bpy.data.lights.new(name, "AREA")
        data.shape, data.size = "SQUARE", lamp["edge"]
        # The radiance was power / (4 edge^2) in 2.79, it is power / (pi edge^2) since.
        data.energy, data.color = lamp["power"] * math.pi / 4, lamp["color"]
        thing = self._place(name, data)
        thing.visible_camera = False
        return thing

    def _add_sun(self) -> None:
        data = bpy.data.lights.new("sun", "SUN")
        data.energy, data.angle = self.setup["sun_irradiance"], self.setup["sun_angle"]
        sun = self._place("sun", data)
        sun.rotation_euler = _from(self.setup["toward_sun"])
        sun.visible_camera = False

    def _add_camera(self) -> Any:
        data = bpy.data.cameras.new("camera")
        data.sensor_fit = "HORIZONTAL"
        data.angle_x = math.radians(self.setup["field_of_view"])
        data.clip_end = 1000.0
        self.scene.camera = self._place("camera", data)
        return self.scene.camera


def _from(position: list[float]) -> Any:
    """The rotation of a lamp at ``position`` that looks at the origin."""
    return (-Vector(position)).to_track_quat("-Z", "Y").to_euler()


# Meshes of objects, spanning [-1, 1]^3.


def _smooth(name: str, shape: Any) -> Any:
    """The mesh of a bmesh, smooth."""
    data = bpy.data.meshes.new(name)
    shape.to_mesh(data)
    shape.free()
    data.shade_smooth()
    return data


def _give_normals(data: Any, normal: Callable[[Any], Any]) -> None:
    """Set the normal of each vertex; flat sides stay flat so, up to the bevel.

    Where very many faces meet, as at the poles of a sphere, Blender's threads race: other normals
    in each process.
    """
    data.normals_split_custom_set_from_vertices([normal(v.co).normalized() for v in data.vertices])


def _sphere() -> Any:
    shape = bmesh.new()
    bmesh.ops.create_uvsphere(shape, u_segments=_ROUND, v_segments=_ROUND // 2, radius=1.0)
    return _smooth("sphere", shape)


def _cube() -> Any:
    shape = bmesh.new()
    bmesh.ops.create_cube(shape, size=2.0)
    _round_off(shape, shape.edges, _CUBE_BEVEL)
    data = _smooth("cube", shape)
    _give_normals(data, lambda point: Vector(_beyond(x, _CUBE_BEVEL) for x in point))
    return data


def _cylinder() -> Any:
    shape = bmesh.new()
    bmesh.ops.create_cone(
        shape, cap_ends=True, segments=_ROUND, radius1=1.0, radius2=1.0, depth=2.0
    )
    rims = [edge for edge in shape.edges if edge.verts[0].co.z * edge.verts[1].co.z > 0]
    _round_off(shape, rims, _CYLINDER_BEVEL)

    def normal(point: Any) -> Any:
        radius = math.hypot(point.x, point.y)
        outward = _beyond(radius, _CYLINDER_BEVEL) / radius
        return Vector((point.x * outward, point.y * outward, _beyond(point.z, _CYLINDER_BEVEL)))

    data = _smooth("cylinder", shape)
    _give_normals(data, normal)
    return data


def _round_off(shape: Any, edges: Any, bevel: float) -> None:
    bmesh.ops.bevel(
        shape,
        geom=list(edges),
        offset=bevel,
        offset_type="OFFSET",
        segments=_BEVEL_SEGMENTS,
        profile=0.5,
        affect="EDGES",
    )


def _beyond(x: float, bevel: float) -> float:
    """How far a coordinate lies within the bevel, with its sign."""
    return x - max(bevel - 1, min(1 - bevel, x))


# Meshes of the stage.


def _sheet(name: str, rows: list[list[tuple[float, float, float]]]) -> Any:
    """A mesh of quads between rows of points."""
    wide = len(rows[0])
    quads = [
        (i * wide + j, i * wide + j + 1, (i + 1) * wide + j + 1, (i + 1) * wide + j)
        for i in range(len(rows) - 1)
        for j in range(wide - 1)
    ]
    data = bpy.data.meshes.new(name)
    data.from_pydata([point for row in rows for point in row], [], quads)
    return data


def _floor() -> Any:
    """Flat, and curving up into a wall behind the table.

    Published pictures show it by the light that the wall sends to the floor.
    """
    angles = [math.pi / 2 * step / 16 for step in range(17)]
    profile = [
        (_FLOOR_WIDTH, 0.0),
        *((_FLOOR_END - _CURVE * math.sin(a), _CURVE * (1 - math.cos(a))) for a in angles),
        (_FLOOR_END - _CURVE, _WALL_HEIGHT),
    ]
    ends = (-_FLOOR_WIDTH, _FLOOR_WIDTH)
    return _sheet("floor", [[(x, y, z) for y in ends] for x, z in profile])


def _lines(at: float) -> list[Any]:
    half = _LINE_WIDTH / 2
    return [
        _sheet("line", [[(x, y, _LINE_HEIGHT) for x in xs] for y in ys])
        for side in (-at, at)
        for xs, ys in (
            ((side - half, side + half), (-at, at)),
            ((-at, at), (side - half, side + half)),
        )
    ]


# Materials. The color is that of the object (Object.color): one material serves all of its kind.


class _Nodes:
    """A material's node tree, with short hands to add to it."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        tree.nodes.clear()

    def add(self, kind: str, **inputs: Any) -> Any:
        """The first output of a new node; inputs are values, or outputs of other nodes."""
        node = self.tree.nodes.new(f"ShaderNode{kind}")
        for name, value in inputs.items():
            self._set(node.inputs[name], value)
        return node.outputs[0]

    def gloss(self, color: Any, alpha: float, anisotropy: float = 0.0) -> Any:
        """GGX. Its roughness was alpha itself in 2.79, and is squared since."""
        roughness = math.sqrt(alpha)
        out = self.add("BsdfAnisotropic", Color=color, Roughness=roughness, Anisotropy=anisotropy)
        out.node.distribution = "GGX"
        return out

    def mix(self, share: Any, first: Any, second: Any) -> Any:
        """Two shaders, with the share of the second."""
        out = self.add("MixShader", Fac=share)
        self._set(out.node.inputs[1], first)
        self._set(out.node.inputs[2], second)
        return out

    def look_up(self, kind: str, output: str) -> Any:
        """A named output of a new node without inputs."""
        return self.add(kind).node.outputs[output]

    def _set(self, socket: Any, value: Any) -> None:
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, socket)
        else:
            socket.default_value = value


def _material(name: str, graph: Callable[[_Nodes], Any]) -> Any:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes = _Nodes(material.node_tree)
    surface = graph(nodes)
    output = nodes.tree.nodes.new("ShaderNodeOutputMaterial")
    nodes.tree.links.new(surface, output.inputs["Surface"])
    return material


def _rubber(nodes: _Nodes) -> Any:
    color = nodes.look_up("ObjectInfo", "Color")
    velvet = nodes.add("BsdfSheen", Color=color, Roughness=0.6)
    velvet.node.distribution = "ASHIKHMIN"
    matte = nodes.mix(nodes.add("Fresnel", IOR=1.45), nodes.add("BsdfDiffuse", Color=color), velvet)
    return nodes.mix(nodes.add("Fresnel", IOR=1.2), matte, nodes.gloss(_GREY, 0.35))


def _metal(nodes: _Nodes) -> Any:
    """Published pictures show which lobe has the larger share."""
    color = nodes.look_up("ObjectInfo", "Color")
    return nodes.mix(0.4, nodes.gloss(color, 0.2, 0.25), nodes.gloss(color, 0.01, 0.25))


def _glass(nodes: _Nodes) -> Any:
    """Its shadow is black in published pictures, but the floor under it sees the wall through it:
    light that a matte surface sends on goes straight through.
    """
    color = nodes.look_up("ObjectInfo", "Color")
    return nodes.mix(
        nodes.look_up("LightPath", "Is Diffuse Ray"),
        nodes.add("BsdfGlass", Color=color, Roughness=0.0, IOR=1.45),
        nodes.add("BsdfTransparent", Color=(1.0, 1.0, 1.0, 1.0)),
    )


def _floor_grey(nodes: _Nodes) -> Any:
    return nodes.add("BsdfDiffuse", Color=_GREY)


def _line(nodes: _Nodes) -> Any:
    """As bright against the floor as in published pictures."""
    return nodes.add("Emission", Strength=_LINE_RADIANCE)


def _index(nodes: _Nodes) -> Any:
    """For masks: a grey that says which object it is."""
    grey = nodes.add("Math")
    grey.node.operation = "DIVIDE"
    nodes.tree.links.new(nodes.look_up("ObjectInfo", "Object Index"), grey.node.inputs[0])
    grey.node.inputs[1].default_value = 255.0
    return nodes.add("Emission", Strength=grey)


_GREY = (0.8, 0.8, 0.8, 1.0)
_GRAPHS = {
    "rubber": _rubber,
    "metal": _metal,
    "glass": _glass,
    "floor": _floor_grey,
    "line": _line,
    "index": _index,
}


def _listen(tasks: "queue.SimpleQueue[str]", folder: Path) -> None:
    """Hand on what the parent says; when it says no more, or is gone, end at once."""
    for line in sys.stdin:
        tasks.put(line)
    _leave(folder, 0)


def _leave(folder: Path, status: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(status)  # Blender's own way out takes long and talks


def _answer(out: BinaryIO, fields: dict[str, Any], content: bytes = b"") -> None:
    out.write(json.dumps(fields).encode() + b"\n" + content)
    out.flush()


def main() -> None:
    """Answer until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Blender prints to file descriptor 1, so the answers take another.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    folder = Path(sys.argv[1])
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks, folder), daemon=True).start()
    try:
        studio = Studio(json.loads(tasks.get()), folder)
        _answer(out, {"blender": bpy.app.version_string})
        while True:
            content = studio.draw(json.loads(tasks.get()))
            _answer(out, {"bytes": len(content)}, content)
    except Exception as error:
        traceback.print_exc()
        _answer(out, {"error": f"{type(error).__name__}: {error}"})
        _leave(folder, 1)


if __name__ == "__main__":
    main()
