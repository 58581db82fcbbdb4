"""Calibrations of head data sets: NeRSemble, Multiface and FaceScape.

All are OpenCV cameras, world to camera.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from calibration.camera import Camera
from calibration.errors import CalibrationError
from calibration.formats.common import (
    Format,
    ReadOptions,
    begins,
    camera_matrix,
    camera_name,
    need,
    need_pinhole,
    numbers,
    opencv_coefficients,
    read_json,
    read_text,
    rig_of,
    write_text,
)
from calibration.rig import Rig

_MULTIFACE_METRES = 0.001


def _pinhole(K: np.ndarray, where: str) -> np.ndarray:
    """(3, 3) K that was written with tiny skew or scale."""
    if abs(K[0, 1]) > 1e-6 * abs(K[0, 0]) or abs(K[1, 0]) > 1e-9:
        raise CalibrationError(f"{where}: K has skew {K[0, 1]:g}; skew is not supported")
    K = K / K[2, 2]
    return camera_matrix(K[0, 0], K[1, 1], K[0, 2], K[1, 2])


def _world_to_camera(value: Any, where: str, metres: float) -> np.ndarray:
    """(4, 4) from 3x4 or 4x4 numbers."""
    rows = np.shape(value)[0] if np.ndim(value) == 2 else 0
    T = np.eye(4)
    T[:3] = numbers(value, (rows if rows in (3, 4) else 3, 4), f"{where}: extrinsics")[:3]
    T[:3, 3] *= metres
    return T


def _is_nersemble(path: Path) -> bool:
    return path.suffix == ".json" and '"world_2_cam"' in begins(path, 200_000)


def read_nersemble(path: Path, options: ReadOptions) -> Rig:
    """camera_params.json: metres; `intrinsics` is one matrix for all cameras, or one by serial."""
    data = read_json(path, "camera_params.json of NeRSemble")
    poses, intrinsics = data.get("world_2_cam"), data.get("intrinsics")
    if not isinstance(poses, dict) or intrinsics is None:
        raise CalibrationError("expected 'world_2_cam' by camera and 'intrinsics'")
    metres = options.metres_per_unit(1.0, "NeRSemble")
    cameras = []
    for serial, pose in poses.items():
        where = f"camera '{serial}'"
        own = intrinsics.get(serial) if isinstance(intrinsics, dict) else intrinsics
        if own is None:
            raise CalibrationError(f"{where}: intrinsics has no entry for it")
        K = _pinhole(numbers(own, (3, 3), f"{where}: intrinsics"), where)
        size = options.picture_size(None, where)
        T = _world_to_camera(pose, where, metres)
        cameras.append(Camera(camera_name(serial), *size, "opencv", K, np.zeros(0), T))
    return rig_of(cameras, "world_2_cam is empty")


def _nersemble_writer(shared: bool) -> Callable[[Path, Rig], None]:
    def write(path: Path, rig: Rig) -> None:
        matrices, poses = {}, {}
        for name, camera in rig.cameras.items():
            K, T = need(camera, "NeRSemble")
            need_pinhole(camera, "NeRSemble", 0)
            matrices[name], poses[name] = K.tolist(), T.tolist()
        intrinsics: Any = matrices
        if shared:
            first = next(iter(matrices.values()))
            if any(K != first for K in matrices.values()):
                raise CalibrationError(
                    "cameras have different K, nersemble-shared has one for all; write nersemble"
                )
            intrinsics = first
        data = {"world_2_cam": poses, "intrinsics": intrinsics}
        write_text(path, json.dumps(data, indent=2) + "\n")

    return write


def _is_nersemble_shared(path: Path) -> bool:
    if not _is_nersemble(path):
        return False
    return isinstance(read_json(path, "camera_params.json").get("intrinsics"), list)


def _is_multiface(path: Path) -> bool:
    if path.name.upper() not in ("KRT", "KRT.TXT") and path.suffix.lower() != ".krt":
        return False
    return bool(begins(path).strip())


def read_multiface(path: Path, options: ReadOptions) -> Rig:
    """KRT: blocks of a name, three rows of K, a row of distortion, three rows of [R | t], in mm."""
    metres = options.metres_per_unit(_MULTIFACE_METRES, "Multiface")
    lines = [line.split() for line in read_text(path, "a KRT file").splitlines() if line.strip()]
    if len(lines) % 8:
        raise CalibrationError("a KRT file has eight lines a camera; this one breaks off")
    cameras = []
    for i in range(0, len(lines), 8):
        name = camera_name("_".join(lines[i]))
        where = f"camera '{name}'"
        K = _pinhole(numbers(lines[i + 1 : i + 4], (3, 3), f"{where}: K"), where)
        dist = opencv_coefficients(lines[i + 4], where)
        T = _world_to_camera(lines[i + 5 : i + 8], where, metres)
        size = options.picture_size(None, where)
        cameras.append(Camera(name, *size, "opencv", K, dist, T))
    return rig_of(cameras, "the file is empty")


def write_multiface(path: Path, rig: Rig) -> None:
    """KRT in millimetres."""
    blocks = []
    for name, camera in rig.cameras.items():
        K, T = need(camera, "Multiface")
        dist = need_pinhole(camera, "Multiface", 5)
        pose = T[:3].copy()
        pose[:, 3] /= _MULTIFACE_METRES
        rows = [*K, dist, *pose]
        blocks.append("\n".join([name, *(" ".join(repr(float(v)) for v in r) for r in rows)]))
    write_text(path, "\n\n".join(blocks) + "\n\n")


def _is_facescape(path: Path) -> bool:
    text = begins(path, 200_000)
    return path.suffix == ".json" and '"0_Rt"' in text and '"0_K"' in text


def read_facescape(path: Path, options: ReadOptions) -> Rig:
    """params.json: i_K, i_Rt, i_distortion, i_width, i_height; i_valid false leaves a camera out.

    Its unit differs from person to person (Rt_scale_dict.json), so it is asked for.
    """
    data = read_json(path, "params.json of FaceScape")
    metres = options.metres_per_unit(None, "a params.json of FaceScape")
    cameras = []
    for number in sorted(int(k[:-3]) for k in data if k.endswith("_Rt") and k[:-3].isdigit()):
        where = f"camera '{number}'"
        if data.get(f"{number}_valid") is False:
            continue
        if f"{number}_K" not in data:
            raise CalibrationError(f"{where}: {number}_K is missing")
        K = _pinhole(numbers(data[f"{number}_K"], (3, 3), f"{where}: K"), where)
        size = options.picture_size(
            (data.get(f"{number}_width"), data.get(f"{number}_height")), where
        )
        dist = opencv_coefficients(data.get(f"{number}_distortion", []), where)
        T = _world_to_camera(data[f"{number}_Rt"], where, metres)
        name = str(data.get(f"{number}_name", number))
        cameras.append(Camera(camera_name(name), *size, "opencv", K, dist, T))
    return rig_of(cameras, "no valid camera in it")


def write_facescape(path: Path, rig: Rig) -> None:
    """params.json in metres; names that are no numbers are kept as i_name."""
    data: dict[str, Any] = {}
    for number, (name, camera) in enumerate(rig.cameras.items()):
        K, T = need(camera, "FaceScape")
        data |= {
            f"{number}_K": K.tolist(),
            f"{number}_Rt": T[:3].tolist(),
            f"{number}_distortion": need_pinhole(camera, "FaceScape", 5).tolist(),
            f"{number}_width": camera.width,
            f"{number}_height": camera.height,
            f"{number}_valid": True,
        }
        if name != str(number):
            data[f"{number}_name"] = name
    write_text(path, json.dumps(data, indent=2) + "\n")


NERSEMBLE_SHARED = Format(
    "nersemble-shared",
    "NeRSemble's camera_params.json, one K for all cameras",
    _is_nersemble_shared,
    read_nersemble,
    _nersemble_writer(True),
    "camera_params.json",
    suffixes=(".json",),
)
NERSEMBLE = Format(
    "nersemble",
    "NeRSemble's camera_params.json, one K a camera",
    _is_nersemble,
    read_nersemble,
    _nersemble_writer(False),
    "camera_params.json",
    suffixes=(".json",),
)
MULTIFACE = Format(
    "multiface",
    "Multiface's KRT",
    _is_multiface,
    read_multiface,
    write_multiface,
    "KRT",
    suffixes=(".krt",),
)
FACESCAPE = Format(
    "facescape",
    "FaceScape's params.json",
    _is_facescape,
    read_facescape,
    write_facescape,
    "params.json",
    suffixes=(".json",),
)
