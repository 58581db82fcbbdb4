"""The take packed for the viewer inside the report: quantised, compressed, base64."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np

from densefit.export.materials import material_of
from densefit.export.neck_cut import shown_triangles
from densefit.export.orientation import world_to_up
from densefit.export.quaternions import quaternion_from_axis_angle
from densefit.export.rigged import rigged_head
from densefit.export.scene import ExportOptions, ExportScene
from densefit.head.rotation import axis_angle, rotation_matrix
from densefit.report.evidence import Evidence

MAX_FRAMES = 1500
"""Longer takes are shown with every n-th frame."""
TOLERANCE = 1e-4
"""m: a tenth of a millimetre is no pixel."""
HIDDEN = ("lashes",)  # alpha cards, black bands without their texture


def viewer_data(evidence: Evidence) -> str:
    """Base64 of a deflated block: its length, a JSON header, then the arrays that it lists.

    Lengths in metres. Shapes are int16 in units of `step`, weights int16 in 1/32767.
    """
    head, fit = evidence.head, evidence.fit
    frames = _frames(fit.posed)
    rigged = rigged_head(ExportScene(fit, head, evidence.rig, frames, ExportOptions()), TOLERANCE)
    shapes = rigged.targets
    step = float(np.abs(shapes).max()) / 32767
    turn = world_to_up("y", evidence.rig, fit.meta.get("up"))
    rotation = quaternion_from_axis_angle(axis_angle(turn @ rotation_matrix(fit.rotation[frames])))
    joints = [quaternion_from_axis_angle(fit.joints[frames, j]) for j in (0, 2, 3)]
    shown = ~np.isin(head.triangle_part, [i for i, n in enumerate(head.part_names) if n in HIDDEN])
    shown &= shown_triangles(head)
    used = np.abs(shapes).max(axis=2) > step / 2
    arrays: dict[str, np.ndarray] = {
        "neutral": rigged.neutral.astype("<f4"),
        "triangles": _indices(head.triangles[shown], len(rigged.neutral)),
        "part": head.triangle_part[shown].astype("u1"),
        # Sparse: how many vertices each shape moves, which, and by how much.
        "shape_counts": used.sum(axis=1).astype("<u4"),
        "shape_vertices": _indices(np.nonzero(used)[1], len(rigged.neutral)),
        "shape_offsets": np.round(shapes[used] / step).astype("<i2"),
        "skinning": np.round(rigged.skinning[:, [0, 2, 3]] * 255).astype("u1"),
        "weights": np.round(np.clip(rigged.weights, -1, 1) * 32767).astype("<i2"),
        "rotation": rotation.astype("<f4"),
        "translation": (fit.translation[frames] @ turn.T).astype("<f4"),
        "joints": np.stack(joints, axis=1).astype("<f4"),
        "time": (fit.time[frames] - fit.time[0]).astype("<f4"),
        "frame": frames.astype("<u4"),
    }
    header: dict[str, Any] = {
        "arrays": [
            [name, array.dtype.str.lstrip("<|"), array.size] for name, array in arrays.items()
        ],
        "step": step,
        "names": list(rigged.names),
        "centres": head.joint_positions(fit.identity)[[0, 2, 3]].tolist(),
        "colours": [np.power(material_of(n).rgb, 1 / 2.2).tolist() for n in head.part_names],
        "cameras": _cameras(evidence, turn),
        "independent": bool(fit.meta.get("independent_frames")),
    }
    return pack(header, arrays)


def pack(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """Length of the header in eight bytes, the header, the arrays; all padded to eight bytes."""
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    blocks = [len(text).to_bytes(8, "little"), text]
    for array in arrays.values():
        data = np.ascontiguousarray(array).tobytes()
        blocks.append(data + b"\0" * (-len(data) % 8))
    return base64.b64encode(zlib.compress(b"".join(blocks), 9)).decode()


def _indices(vertices: np.ndarray, count: int) -> np.ndarray:
    """Numbers below `count` as the smallest type that holds them."""
    return vertices.astype("<u2" if count <= 1 << 16 else "<u4")


def _frames(posed: np.ndarray) -> np.ndarray:
    frames = np.flatnonzero(posed)
    return frames[:: -(-len(frames) // MAX_FRAMES)]


def _cameras(evidence: Evidence, turn: np.ndarray) -> list[dict[str, Any]]:
    """Centre and the four corners of the picture 12 cm before it, in the viewer's axes."""
    found = []
    for name in evidence.cameras:
        camera = evidence.known_camera(name)
        if camera is None:
            continue
        k, transform = camera.K, camera.T_camera_world
        assert k is not None and transform is not None
        inverse = np.linalg.inv(transform)
        w, h = camera.width, camera.height
        # The middle of the first pixel is 0, 0; the picture begins half a pixel before it.
        edges = np.array([[0, 0, 0], [w, 0, 0], [w, h, 0], [0, h, 0]])
        pixels = edges + [-0.5, -0.5, 1.0]
        rays = pixels @ np.linalg.inv(k).T * 0.12
        corners = (rays @ inverse[:3, :3].T + inverse[:3, 3]) @ turn.T
        found.append(
            {"name": name, "centre": (turn @ inverse[:3, 3]).tolist(), "corners": corners.tolist()}
        )
    return found
