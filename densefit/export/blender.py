"""Blender: one Python script that carries the take and rebuilds it, with nothing else installed."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densefit.errors import InputError
from densefit.export.materials import material_of
from densefit.export.quaternions import quaternion_from_axis_angle, quaternion_from_matrix
from densefit.export.rigged import RiggedHead, rigged_head
from densefit.export.scene import ExportScene
from densefit.files import write_text
from densefit.footage import Footage, read_footage
from densefit.head.model import JOINT_NAMES
from densefit.head.rotation import axis_angle, rotation_matrix
from densefit.progress import warn

if TYPE_CHECKING:
    from calibration import Camera

CODES = {"f": np.dtype("<f4"), "i": np.dtype("<i4")}
TEMPLATE = Path(__file__).with_name("blender_script.py")
PLACEHOLDER = 'DATA = ""'


def write_blender(scene: ExportScene, folder: Path) -> list[Path]:
    """head.py: mesh, shape keys, armature, animation, cameras, and footage behind the cameras.

    Blender's frame 1 is the first exported frame. Axes are z-up, as Blender's own, unless `up` says
    y; with `unit` cm the scene counts centimetres.
    """
    rigged = rigged_head(scene)
    arrays = _arrays(scene, rigged)
    header = _header(scene, rigged)
    header["arrays"] = [[name, code, int(array.size)] for name, (code, array) in arrays.items()]
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    raw = len(text).to_bytes(8, "little") + text
    raw += b"".join(array.astype(CODES[code]).tobytes() for code, array in arrays.values())
    script = TEMPLATE.read_text(encoding="utf-8")
    assert script.count(PLACEHOLDER) == 1
    packed = base64.b64encode(zlib.compress(raw, 6)).decode()
    path = folder / "head.py"
    write_text(path, script.replace(PLACEHOLDER, f'DATA = "{packed}"'))
    return [path]


def _arrays(scene: ExportScene, rigged: RiggedHead) -> dict[str, tuple[str, np.ndarray]]:
    """Flat arrays by name, with the type code of Python's array module."""
    fit, frames, surface = scene.fit, scene.posed_frames, scene.surface
    turn, scale = scene.axes(scene.up_of("z")), scene.scale
    rotation = quaternion_from_axis_angle(axis_angle(turn @ rotation_matrix(fit.rotation[frames])))
    joints = [quaternion_from_axis_angle(fit.joints[frames, j]) for j in range(len(JOINT_NAMES))]
    return {
        "neutral": ("f", rigged.neutral * scale),
        "triangles": ("i", surface.triangles),
        "uv": ("f", surface.uv[surface.uv_triangles]),
        "part": ("i", surface.triangle_part),
        "targets": ("f", rigged.targets * scale),
        "skinning": ("f", rigged.skinning),
        "frames": ("f", 1 + scene.seconds(frames) * scene.fps),
        "weights": ("f", rigged.weights),
        "translation": ("f", fit.translation[frames] @ turn.T * scale),
        "rotation": ("f", _w_first(rotation)),
        "joint_rotation": ("f", _w_first(np.stack(joints, axis=1))),
    }


def _w_first(quaternion: np.ndarray) -> np.ndarray:
    return np.roll(quaternion, 1, axis=-1)


def _header(scene: ExportScene, rigged: RiggedHead) -> dict[str, Any]:
    footage = read_footage(scene.out)
    last = 1 + scene.seconds(scene.frames[-1:])[0] * scene.fps
    return {
        "parts": [
            {"name": name, "rgb": look.rgb, "alpha": look.alpha, "roughness": look.roughness}
            for name in scene.surface.part_names
            for look in [material_of(name)]
        ],
        "targets": list(rigged.names),
        "joints": dict(
            zip(JOINT_NAMES, (rigged.joint_centres * scene.scale).tolist(), strict=True)
        ),
        "scale": scene.scale,
        "fps": scene.fps,
        "range": [1, max(1, round(float(last)))],
        "cameras": [_camera(scene, camera, footage) for camera in scene.cameras.values()],
    }


def _camera(scene: ExportScene, camera: Camera, footage: Footage | None) -> dict[str, Any]:
    k, transform = camera.K, camera.T_camera_world
    assert k is not None and transform is not None
    inverse = np.linalg.inv(transform)
    turn = scene.axes(scene.up_of("z"))
    rotation = quaternion_from_matrix(turn @ (inverse[:3, :3] * [1.0, -1.0, -1.0]))
    centre = k[:2, 2] + 0.5 - np.array([camera.width, camera.height]) / 2
    return {
        "name": camera.name,
        "size": [camera.width, camera.height],
        "focal": float(k[0, 0] / camera.width),
        # Blender moves the picture by shares of its larger side; x against, y with OpenCV's.
        "shift": [float(-centre[0] / camera.width), float(centre[1] / camera.width)],
        "location": (turn @ inverse[:3, 3] * scene.scale).tolist(),
        "rotation": _w_first(rotation).tolist(),
        "K": k.reshape(-1).tolist(),
        "dist": camera.dist.tolist() or [0.0],
        "model": camera.model,
        "footage": _background(scene, camera.name, footage),
    }


def _background(scene: ExportScene, name: str, footage: Footage | None) -> dict[str, Any] | None:
    """The recording, and which of its pictures belongs to each of Blender's frames."""
    if footage is None:
        return None
    recording = footage.recordings[footage.column(name)]
    index = footage.index[scene.moments, footage.column(name)]
    seen = np.flatnonzero(index >= 0)
    if not len(seen):
        return None
    path, source = recording.path, "MOVIE"
    if recording.kind == "video":
        if not path.exists():
            warn(f"{path}: gone; '{name}' has no background until it is there again")
    else:
        try:
            files = recording.open().files
        except InputError as error:
            warn(f"'{name}' has no background: {error}")
            return None
        path, source = files[0], "FILE" if recording.kind == "photo" else "SEQUENCE"
    shown = 1 + np.round(scene.seconds(scene.frames[seen]) * scene.fps).astype(int)
    picture = index[seen] * footage.every + _first_frame(footage, recording.fps)
    return {
        "path": str(path),
        "source": source,
        "frame_start": int(shown[0]),
        "frames": int(shown[-1] - shown[0] + 1),
        "offsets": _offsets(shown, picture),
    }


def _offsets(shown: np.ndarray, picture: np.ndarray) -> list[list[int]]:
    """Blender plays a recording picture by picture from its first frame; where the take does not
    (another rate, dropped or skipped pictures), this is added: [frame, offset] where it changes.

    Args:
        shown: (n,) Blender's frames.  picture: (n,) of the recording, counted from 0.
    """
    offset = picture - (shown - shown[0])
    changes = np.flatnonzero(np.diff(offset, prepend=offset[0] - 1))
    return [[int(shown[k]), int(offset[k])] for k in changes]


def _first_frame(footage: Footage, fps: float) -> int:
    """Number in the recording of the first picture that was read."""
    from densefit.capture import parse_moment

    start = parse_moment(footage.start)
    if start is None:
        return 0
    return int(start.value) if start.unit == "frames" else round(start.value * fps)
