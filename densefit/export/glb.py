"""GLB: the head with 52 morph targets, skinned neck and eyes, and the take as animation.

The head model is morph targets followed by linear-blend skinning about the joints' centres, which
is just what
glTF does, so the file reproduces the fit: node `head_root` carries the rigid motion, its children
`neck`, `head`,
`left_eye` and `right_eye` stand at the person's joint centres and turn, the morph weights are the
expression. Node
`world` above them turns the rig's world y-up. glTF means metres and +y up: `--unit cm` and `--up z`
make `world` carry that scale and turn, for programs that take the numbers as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import densefit
from densefit.export.gltf_file import INDEX_BUFFER, VERTEX_BUFFER, GltfFile
from densefit.export.materials import TEXTURED_PARTS, material_of
from densefit.export.mesh_arrays import split_at_seams, vertex_normals
from densefit.export.quaternions import quaternion_from_axis_angle, quaternion_from_matrix
from densefit.export.rigged import RiggedHead, rigged_head
from densefit.export.scene import ExportScene
from densefit.export.target_normals import target_normals
from densefit.head.model import JOINT_NAMES
from densefit.progress import warn


def write_glb(scene: ExportScene, folder: Path) -> list[Path]:
    """head.glb, y-up and metres unless `up` and `unit` say otherwise.

    Gaps have no keys: players interpolate across them. The asset's extras list their frames.
    """
    _warn_of_conventions(scene)
    gltf = GltfFile(f"densefit {densefit.__version__}")
    rigged = rigged_head(scene)
    nodes = _add_nodes(gltf, scene)
    mesh = _add_mesh(gltf, scene, rigged)
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(JOINT_NAMES), 1, 1))
    inverse_bind[
        :, 3, :3
    ] = -scene.joint_centres()  # column-major: the last row in memory is the translation
    joints = [nodes[name] for name in JOINT_NAMES]
    matrices = gltf.add_array(inverse_bind)
    skin = gltf.add(
        "skins", {"joints": joints, "skeleton": nodes["head_root"], "inverseBindMatrices": matrices}
    )
    person = gltf.add("nodes", {"name": "person", "mesh": mesh, "skin": skin})
    _add_animation(gltf, scene, rigged, {**nodes, "person": person})
    gltf.add("scenes", {"name": "densefit", "nodes": [nodes["world"], person]})
    gltf.json["scene"] = 0
    gltf.json["asset"]["extras"] = _extras(scene)
    return [gltf.write(folder / "head.glb")]


def _warn_of_conventions(scene: ExportScene) -> None:
    """Importers that follow the specification undo nothing of this."""
    options = scene.options
    if options.unit != "m":
        warn(
            f"glb: lengths in {options.unit}, as asked; glTF means metres, so programs that follow "
            f"it show the head {scene.scale:g} times too large (Unreal turns metres into cm by "
            f"itself)"
        )
    if options.up == "z":
        warn(
            "glb: z is up, as asked; glTF means y, so programs that follow it show the head lying "
            "on its back (Blender turns y-up files by itself)"
        )


def _extras(scene: ExportScene) -> dict[str, Any]:
    fit, chosen = scene.recorded, scene.recorded_frames
    absent = [int(frame) for frame in chosen if not fit.posed[frame]]
    return {
        "model": fit.meta["model"],
        "scale": fit.meta["scale"],
        "unit": scene.options.unit,
        "up": scene.up_of("y"),
        "fps": scene.fps,
        "frames": [int(chosen[0]), int(chosen[-1]) + 1],
        "frames_without_head": absent,
    }


def _add_nodes(gltf: GltfFile, scene: ExportScene) -> dict[str, int]:
    """World, root, joints and cameras; the rest pose is the first frame with a head."""
    fit = scene.fit
    first = scene.posed_frames[0]
    centres = scene.joint_centres()
    nodes: dict[str, int] = {}
    for j, name in enumerate(JOINT_NAMES):
        rotation = quaternion_from_axis_angle(fit.joints[first, j])
        nodes[name] = gltf.add(
            "nodes",
            {"name": name, "translation": centres[j].tolist(), "rotation": rotation.tolist()},
        )
    root = {
        "name": "head_root",
        "children": [nodes[name] for name in JOINT_NAMES],
        "translation": fit.translation[first].tolist(),
        "rotation": quaternion_from_axis_angle(fit.rotation[first]).tolist(),
    }
    nodes["head_root"] = gltf.add("nodes", root)
    world = {
        "name": "world",
        "children": [nodes["head_root"], *_add_cameras(gltf, scene)],
        "rotation": quaternion_from_matrix(scene.axes(scene.up_of("y"))).tolist(),
    }
    if scene.scale != 1:
        world["scale"] = [scene.scale] * 3
    nodes["world"] = gltf.add("nodes", world)
    return nodes


def _add_cameras(gltf: GltfFile, scene: ExportScene) -> list[int]:
    """A node for each calibrated camera.

    glTF knows neither lens distortion nor an off-centre image, so extras hold K.
    """
    nodes = []
    for camera in scene.cameras.values():
        assert camera.K is not None and camera.T_camera_world is not None
        perspective = {
            "yfov": float(2 * np.arctan(camera.height / (2 * camera.K[1, 1]))),
            "aspectRatio": camera.width / camera.height,
            "znear": 0.01,
        }
        extras = {"K": camera.K.tolist(), "dist": camera.dist.tolist(), "model": camera.model}
        index = gltf.add(
            "cameras",
            {
                "name": camera.name,
                "type": "perspective",
                "perspective": perspective,
                "extras": extras,
            },
        )
        T_world_camera = np.linalg.inv(camera.T_camera_world)
        flipped = T_world_camera[:3, :3] * [1.0, -1.0, -1.0]  # glTF cameras look along -z with y up
        node = {
            "name": f"camera_{camera.name}",
            "camera": index,
            "translation": T_world_camera[:3, 3].tolist(),
            "rotation": quaternion_from_matrix(flipped).tolist(),
        }
        nodes.append(gltf.add("nodes", node))
    return nodes


def _add_mesh(gltf: GltfFile, scene: ExportScene, rigged: RiggedHead) -> int:
    """One primitive a part; all share the vertex arrays."""
    surface, neutral = scene.surface, rigged.neutral
    source, uv_index, triangles = split_at_seams(
        surface.triangles, surface.uv_triangles, len(neutral)
    )
    normals = vertex_normals(neutral, surface.triangles)
    uv = np.where(uv_index[:, None] >= 0, surface.uv[uv_index], 0.0)
    uv[:, 1] = 1.0 - uv[:, 1]  # glTF counts v from the top
    joints = np.where(rigged.skinning > 0, np.arange(len(JOINT_NAMES)), 0)
    attributes = {
        "POSITION": _add_vertex_array(gltf, neutral[source], bounds=True),
        "NORMAL": _add_vertex_array(gltf, normals[source]),
        "TEXCOORD_0": _add_vertex_array(gltf, uv),
        "JOINTS_0": gltf.add_array(joints[source].astype(np.uint8), VERTEX_BUFFER),
        "WEIGHTS_0": _add_vertex_array(gltf, rigged.skinning[source]),
    }
    targets = _add_morph_targets(gltf, surface.triangles, rigged, normals, source)
    texture = _add_texture(gltf, scene) if scene.options.texture else None
    primitives = []
    for part, name in enumerate(surface.part_names):
        faces = triangles[surface.triangle_part == part]
        if len(faces):
            indices = gltf.add_array(faces.reshape(-1).astype(np.uint32), INDEX_BUFFER)
            material = _add_material(gltf, name, texture)
            primitives.append(
                {
                    "attributes": attributes,
                    "indices": indices,
                    "material": material,
                    "targets": targets,
                }
            )
    mesh = {
        "name": "head",
        "primitives": primitives,
        "weights": [float(w) for w in rigged.weights[0]],
        "extras": {"targetNames": list(rigged.names), "model_vertices": len(neutral)},
    }
    return gltf.add("meshes", mesh)


def _add_vertex_array(gltf: GltfFile, array: np.ndarray, bounds: bool = False) -> int:
    return gltf.add_array(array.astype(np.float32), VERTEX_BUFFER, bounds)


def _add_morph_targets(
    gltf: GltfFile,
    triangles: np.ndarray,
    rigged: RiggedHead,
    normals: np.ndarray,
    source: np.ndarray,
) -> list[dict[str, int]]:
    """Displacement of positions and normals for each target."""
    targets = []
    every = target_normals(rigged, normals, triangles)
    for delta, turned in zip(rigged.targets, every, strict=True):
        targets.append(
            {
                "POSITION": _add_vertex_array(gltf, delta[source], bounds=True),
                "NORMAL": _add_vertex_array(gltf, turned[source]),
            }
        )
    return targets


def _add_texture(gltf: GltfFile, scene: ExportScene) -> int:
    """The colour map as a PNG inside the file; its index among the textures."""
    import cv2

    good, data = cv2.imencode(".png", scene.colour_map[..., ::-1])
    assert good, "OpenCV always has a PNG encoder"
    view = gltf.add_bytes(data.tobytes())
    image = gltf.add("images", {"name": "skin", "mimeType": "image/png", "bufferView": view})
    sampler = gltf.add("samplers", {"magFilter": 9729, "minFilter": 9987})
    return gltf.add("textures", {"source": image, "sampler": sampler})


def _add_material(gltf: GltfFile, part: str, texture: int | None) -> int:
    material = material_of(part)
    item: dict[str, Any] = {
        "name": part,
        "pbrMetallicRoughness": {
            "baseColorFactor": [*material.rgb, material.alpha],
            "metallicFactor": 0.0,
            "roughnessFactor": material.roughness,
        },
    }
    if texture is not None and part in TEXTURED_PARTS:
        surface = item["pbrMetallicRoughness"]
        surface.update(baseColorFactor=[1.0, 1.0, 1.0, 1.0], baseColorTexture={"index": texture})
    if material.alpha < 1:
        item.update(alphaMode="BLEND", doubleSided=True)
    return gltf.add("materials", item)


def _add_animation(
    gltf: GltfFile, scene: ExportScene, rigged: RiggedHead, nodes: dict[str, int]
) -> None:
    """Keys at the frames that have a head; time starts at the first exported frame."""
    fit, frames = scene.fit, scene.posed_frames
    times = gltf.add_array(scene.seconds(frames).astype(np.float32), bounds=True)
    tracks = [
        ("head_root", "translation", fit.translation[frames]),
        ("head_root", "rotation", quaternion_from_axis_angle(fit.rotation[frames])),
        ("person", "weights", rigged.weights.reshape(-1)),
    ]
    for j, name in enumerate(JOINT_NAMES):
        if name != "head":  # the head is the root
            tracks.append((name, "rotation", quaternion_from_axis_angle(fit.joints[frames, j])))
    # Independent pictures have nothing between them to interpolate.
    interpolation = "STEP" if fit.meta.get("independent_frames") else "LINEAR"
    samplers, channels = [], []
    for node, path, values in tracks:
        output = gltf.add_array(values.astype(np.float32))
        samplers.append({"input": times, "output": output, "interpolation": interpolation})
        channels.append(
            {"sampler": len(samplers) - 1, "target": {"node": nodes[node], "path": path}}
        )
    gltf.add("animations", {"name": "take", "samplers": samplers, "channels": channels})
