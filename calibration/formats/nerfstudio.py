"""nerfstudio's transforms.json: camera-to-world with OpenGL cameras (+y up, +z backwards).

Principal points are counted from the picture's corner, as COLMAP does. Its unit is arbitrary.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
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
    read_json,
    rig_of,
    write_text,
)
from calibration.rig import Rig
from calibration.rotations import invert

_HALF = 0.5
# OpenGL camera axes as columns of OpenCV's.
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
_FISHEYE = ("OPENCV_FISHEYE", "FISHEYE")
_FISHEYE_KEYS: tuple[str, ...] = ("k1", "k2", "k3", "k4")
_PINHOLE_KEYS: tuple[str, ...] = ("k1", "k2", "p1", "p2", "k3")
_PINHOLE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE")


def _recognizes(path: Path) -> bool:
    file = path / "transforms.json" if path.is_dir() else path
    text = begins(file, 200_000)
    return file.suffix == ".json" and '"frames"' in text and '"transform_matrix"' in text


def read_nerfstudio(path: Path, options: ReadOptions) -> Rig:
    """One camera a frame; intrinsics of the frame, or of the whole file."""
    path = path / "transforms.json" if path.is_dir() else path
    data = read_json(path, "transforms.json of nerfstudio")
    frames = data.get("frames") if isinstance(data, dict) else None
    if not isinstance(frames, list) or not all(isinstance(f, dict) for f in frames):
        raise CalibrationError("no list 'frames' in it; is it a transforms.json?")
    metres = options.metres_per_unit(None, "a transforms.json")
    names = _names(frames)
    return rig_of(
        [
            _camera(name, {**data, **frame}, metres, options)
            for name, frame in zip(names, frames, strict=True)
        ],
        "frames is empty",
    )


def _names(frames: list[dict[str, Any]]) -> list[str]:
    paths = [PurePosixPath(str(frame.get("file_path", ""))) for frame in frames]
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [path.parent.name for path in paths]
    if len(set(stems)) < len(stems):
        raise CalibrationError(
            "several frames of one name: a rig has one picture a camera; keep one moment"
        )
    return [camera_name(stem) for stem in stems]


def _camera(name: str, entry: dict[str, Any], metres: float, options: ReadOptions) -> Camera:
    where = f"camera '{name}'"
    width, height = options.picture_size((entry.get("w"), entry.get("h")), where)
    model = str(entry.get("camera_model", "OPENCV")).upper()
    if model not in (*_FISHEYE, *_PINHOLE):
        raise CalibrationError(f"{where}: camera_model {model} is not supported; use OPENCV")
    if "fl_x" in entry:
        fx = float(numbers([entry["fl_x"]], (1,), f"{where}: fl_x")[0])
        fy = float(numbers([entry.get("fl_y", fx)], (1,), f"{where}: fl_y")[0])
    elif "camera_angle_x" in entry:
        angle = numbers([entry["camera_angle_x"]], (1,), f"{where}: camera_angle_x")[0]
        fx = fy = float(width / 2 / np.tan(angle / 2))
    else:
        raise CalibrationError(f"{where}: it has neither fl_x nor camera_angle_x")
    centre = numbers(
        [entry.get("cx", width / 2), entry.get("cy", height / 2)], (2,), f"{where}: cx, cy"
    )
    fisheye = model in _FISHEYE
    keys = _FISHEYE_KEYS if fisheye else _PINHOLE_KEYS
    dist = numbers([entry.get(key, 0.0) for key in keys], (len(keys),), f"{where}: distortion")
    if not fisheye and entry.get("k4"):
        raise CalibrationError(f"{where}: k4 of a pinhole camera is not supported")
    T = numbers(entry.get("transform_matrix"), (4, 4), f"{where}: transform_matrix") @ _FLIP
    T = invert(T)
    T[:3, 3] *= metres
    return Camera(
        name,
        width,
        height,
        "opencv_fisheye" if fisheye else "opencv",
        camera_matrix(fx, fy, centre[0] - _HALF, centre[1] - _HALF),
        dist if dist.any() else dist[:0],
        T,
    )


def write_nerfstudio(path: Path, rig: Rig) -> None:
    """One frame a camera, each with its own intrinsics; unit metre."""
    frames = []
    models = {camera.model for camera in rig.cameras.values()}
    if len(models) > 1:
        raise CalibrationError("a transforms.json has one camera model, this rig mixes two")
    for name, camera in rig.cameras.items():
        K, T = need(camera, "nerfstudio")
        if camera.model == "opencv_fisheye":
            keys, dist = _FISHEYE_KEYS, np.concatenate([camera.dist, np.zeros(4)])
        else:
            keys, dist = _PINHOLE_KEYS, need_pinhole(camera, "nerfstudio", 5)
        frames.append(
            {
                "file_path": f"images/{name}.png",
                "w": camera.width,
                "h": camera.height,
                "fl_x": float(K[0, 0]),
                "fl_y": float(K[1, 1]),
                "cx": float(K[0, 2]) + _HALF,
                "cy": float(K[1, 2]) + _HALF,
                **{key: float(value) for key, value in zip(keys, dist, strict=False)},
                "transform_matrix": (invert(T) @ _FLIP).tolist(),
            }
        )
    model = "OPENCV_FISHEYE" if models == {"opencv_fisheye"} else "OPENCV"
    write_text(path, json.dumps({"camera_model": model, "frames": frames}, indent=2) + "\n")


NERFSTUDIO = Format(
    "nerfstudio",
    "nerfstudio's transforms.json",
    _recognizes,
    read_nerfstudio,
    write_nerfstudio,
    "transforms.json",
    suffixes=(".json",),
)
