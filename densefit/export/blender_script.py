"""Rebuilds the take in Blender: run it in the text editor, or `blender --python head.py`.

    blender --background --python head.py -- head.blend      saves the scene

Written by densefit; needs nothing but Blender.
"""

import array
import base64
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import bpy

DATA = ""
Header = dict[str, Any]
Arrays = dict[str, array.array]


def unpack(text: str) -> tuple[Header, Arrays]:
    """Header (JSON) and the arrays that follow it, as array.array."""
    raw = zlib.decompress(base64.b64decode(text))
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    arrays: Arrays = {}
    place = 8 + size
    for name, code, count in header["arrays"]:
        values: array.array = array.array(code)
        end = place + count * values.itemsize
        values.frombytes(raw[place:end])
        arrays[name], place = values, end
    return header, arrays


def make_mesh(header: Header, arrays: Arrays, collection: Any) -> Any:
    mesh = bpy.data.meshes.new("head")
    points, corners = arrays["neutral"], arrays["triangles"]
    mesh.from_pydata(
        [tuple(points[i : i + 3]) for i in range(0, len(points), 3)],
        [],
        [tuple(corners[i : i + 3]) for i in range(0, len(corners), 3)],
    )
    mesh.uv_layers.new(name="UVMap").data.foreach_set("uv", arrays["uv"])
    mesh.polygons.foreach_set("material_index", arrays["part"])
    mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
    for part in header["parts"]:
        mesh.materials.append(make_material(part))
    mesh.update()
    head = bpy.data.objects.new("head", mesh)
    collection.objects.link(head)
    return head


def make_material(part: dict[str, Any]) -> Any:
    material = bpy.data.materials.new(part["name"])
    material.diffuse_color = [*part["rgb"], part["alpha"]]
    material.use_nodes = True
    shader = material.node_tree.nodes.get("Principled BSDF")
    if shader is not None:
        shader.inputs["Base Color"].default_value = [*part["rgb"], 1.0]
        shader.inputs["Roughness"].default_value = part["roughness"]
        shader.inputs["Alpha"].default_value = part["alpha"]
    return material


def add_shape_keys(head: Any, header: Header, arrays: Arrays) -> None:
    head.shape_key_add(name="Basis", from_mix=False)
    neutral, deltas = arrays["neutral"], arrays["targets"]
    size = len(neutral)
    for number, name in enumerate(header["targets"]):
        delta = deltas[number * size : (number + 1) * size]
        key = head.shape_key_add(name=name, from_mix=False)
        key.slider_min, key.slider_max = -1.0, 1.0
        shape = array.array("f", map(float.__add__, neutral, delta))
        key.data.foreach_set("co", shape)


def add_armature(head: Any, header: Header, arrays: Arrays, collection: Any) -> Any:
    """Bones point along +y of the head frame, so that their rest rotation is none."""
    armature = bpy.data.objects.new("head_rig", bpy.data.armatures.new("head_rig"))
    collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    for name, (x, y, z) in header["joints"].items():
        bone = armature.data.edit_bones.new(name)
        bone.head, bone.roll = (x, y, z), 0.0
        bone.tail = (x, y + 0.02 * header["scale"], z)
    bpy.ops.object.mode_set(mode="OBJECT")
    count = len(header["joints"])
    for column, name in enumerate(header["joints"]):
        group = head.vertex_groups.new(name=name)
        weights = arrays["skinning"][column::count]
        for vertex, weight in enumerate(weights):
            if weight > 0:
                group.add([vertex], weight, "REPLACE")
    head.parent = armature
    modifier = head.modifiers.new("head_rig", "ARMATURE")
    modifier.object = armature
    armature.rotation_mode = "QUATERNION"
    for bone in armature.pose.bones:
        bone.rotation_mode = "QUATERNION"
    return armature


def animate(head: Any, armature: Any, header: Header, arrays: Arrays) -> None:
    frames = arrays["frames"]
    keys = [head.data.shape_keys.key_blocks[name] for name in header["targets"]]
    joints = list(header["joints"])
    for i, frame in enumerate(frames):
        armature.location = arrays["translation"][3 * i : 3 * i + 3]
        armature.rotation_quaternion = arrays["rotation"][4 * i : 4 * i + 4]
        armature.keyframe_insert("location", frame=frame)
        armature.keyframe_insert("rotation_quaternion", frame=frame)
        for j, name in enumerate(joints):
            bone = armature.pose.bones[name]
            place = 4 * (i * len(joints) + j)
            bone.rotation_quaternion = arrays["joint_rotation"][place : place + 4]
            bone.keyframe_insert("rotation_quaternion", frame=frame)
        for k, key in enumerate(keys):
            key.value = arrays["weights"][i * len(keys) + k]
            key.keyframe_insert("value", frame=frame)


def make_camera(item: dict[str, Any], collection: Any, scale: float) -> Any:
    data = bpy.data.cameras.new(item["name"])
    data.sensor_fit, data.sensor_width = "HORIZONTAL", 36.0
    data.lens = item["focal"] * 36.0
    data.shift_x, data.shift_y = item["shift"]
    data.clip_start, data.clip_end, data.display_size = 0.01 * scale, 100 * scale, 0.1 * scale
    camera = bpy.data.objects.new(item["name"], data)
    collection.objects.link(camera)
    camera.location = item["location"]
    camera.rotation_mode = "QUATERNION"
    camera.rotation_quaternion = item["rotation"]
    camera["K"], camera["dist"], camera["lens_model"] = item["K"], item["dist"], item["model"]
    camera["resolution"] = item["size"]
    footage = item["footage"]
    if footage and Path(footage["path"]).exists():
        add_background(data, footage)
    elif footage:
        print(f"{item['name']}: {footage['path']} is not here, no background")
    return camera


def add_background(data: Any, footage: dict[str, Any]) -> None:
    image = bpy.data.images.load(footage["path"], check_existing=True)
    image.source = footage["source"]
    data.show_background_images = True
    background = data.background_images.new()
    background.image, background.alpha = image, 1.0
    background.frame_method = "STRETCH"
    if footage["source"] != "FILE":
        user = background.image_user
        user.frame_start, user.frame_duration = footage["frame_start"], footage["frames"]
        user.use_auto_refresh = True
        offsets = footage["offsets"]
        for frame, offset in offsets:
            user.frame_offset = offset
            if len(offsets) > 1:
                path = "background_images[0].image_user.frame_offset"
                data.keyframe_insert(path, frame=frame)
        for curve in animation_curves(data):
            for key in curve.keyframe_points:
                key.interpolation = "CONSTANT"


def animation_curves(item: Any) -> list[Any]:
    """F-curves of something animated; Blender 5 keeps them in layers."""
    action = item.animation_data.action if item.animation_data else None
    if action is None or hasattr(action, "fcurves"):
        return list(action.fcurves) if action else []
    strips = [strip for layer in action.layers for strip in layer.strips]
    return [curve for strip in strips for bag in strip.channelbags for curve in bag.fcurves]


def build() -> Any:
    header, arrays = unpack(DATA)
    scene = bpy.context.scene
    collection = bpy.data.collections.new("densefit")
    scene.collection.children.link(collection)
    head = make_mesh(header, arrays, collection)
    add_shape_keys(head, header, arrays)
    armature = add_armature(head, header, arrays, collection)
    animate(head, armature, header, arrays)
    scene.render.fps = max(1, round(header["fps"]))
    scene.render.fps_base = scene.render.fps / header["fps"]
    scene.frame_start, scene.frame_end = header["range"]
    scene.unit_settings.scale_length = 1 / header["scale"]
    for item in header["cameras"]:
        camera = make_camera(item, collection, header["scale"])
        if scene.camera is None or item is header["cameras"][0]:
            scene.camera = camera
            scene.render.resolution_x, scene.render.resolution_y = item["size"]
    scene.frame_set(header["range"][0])
    return head


if __name__ == "__main__":
    build()
    if "--" in sys.argv and len(sys.argv) > sys.argv.index("--") + 1:
        target = Path(sys.argv[sys.argv.index("--") + 1]).absolute()
        bpy.ops.wm.save_as_mainfile(filepath=str(target))
