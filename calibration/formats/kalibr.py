"""Kalibr's camchain.yaml: metres, each camera relative to the one before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from calibration.atomic import atomic_path
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
    rig_of,
)
from calibration.rig import Rig
from calibration.rotations import invert
from calibration.safe_yaml import dump_yaml, load_yaml


def _recognizes(path: Path) -> bool:
    text = begins(path)
    return path.suffix.lower() in (".yaml", ".yml") and "cam0:" in text and "intrinsics:" in text


def read_kalibr(path: Path, options: ReadOptions) -> Rig:
    """cam0, cam1, ...; T_cn_cnm1 maps the previous camera's frame to this one's; cam0 is the world.

    Cameras are called by their rostopic's first part, where all have one of their own, else camN.
    """
    data = load_yaml(path, "camchain of Kalibr")
    metres = options.metres_per_unit(1.0, "Kalibr")
    keys = sorted(
        (k for k in data if k.startswith("cam") and k[3:].isdigit()), key=lambda k: int(k[3:])
    )
    if [int(k[3:]) for k in keys] != list(range(len(keys))):
        raise CalibrationError("cameras must be cam0, cam1, ... without a gap: it is a chain")
    names = _names(data, keys)
    cameras, T = [], np.eye(4)
    chained = len(keys) == 1 or all(data[k].get("T_cn_cnm1") is not None for k in keys[1:])
    if len(keys) > 1 and not chained:
        raise CalibrationError("T_cn_cnm1 is missing: it is no chain of cameras")
    for i, (key, name) in enumerate(zip(keys, names, strict=True)):
        entry = data[key]
        if i > 0:
            step = numbers(entry["T_cn_cnm1"], (4, 4), f"{key}: T_cn_cnm1")
            step[:3, 3] *= metres
            T = step @ T
        cameras.append(_camera(name, key, entry, T if len(keys) > 1 else None))
    return rig_of(cameras, "no cam0 in it")


def _names(data: dict[str, Any], keys: list[str]) -> list[str]:
    topics = [str(data[key].get("rostopic", "")).strip("/").split("/")[0] for key in keys]
    if all(topics) and len(set(topics)) == len(topics):
        return [camera_name(topic) for topic in topics]
    return keys


def _camera(name: str, where: str, entry: dict[str, Any], T: np.ndarray | None) -> Camera:
    if entry.get("camera_model") != "pinhole":
        raise CalibrationError(
            f"{where}: camera_model {entry.get('camera_model')!r} is not supported; calibrate with "
            "pinhole-radtan or pinhole-equi"
        )
    fx, fy, cx, cy = numbers(entry.get("intrinsics"), (4,), f"{where}: intrinsics")
    size = numbers(entry.get("resolution"), (2,), f"{where}: resolution").astype(int)
    lens = entry.get("distortion_model", "none")
    if lens not in ("radtan", "equidistant", "none"):
        raise CalibrationError(
            f"{where}: distortion_model {lens!r} is not supported; use radtan or equidistant"
        )
    dist = np.zeros(0)
    if lens != "none":
        dist = numbers(entry.get("distortion_coeffs"), (4,), f"{where}: distortion_coeffs")
    model = "opencv_fisheye" if lens == "equidistant" else "opencv"
    K = camera_matrix(fx, fy, cx, cy)
    return Camera(name, int(size[0]), int(size[1]), model, K, dist, T)


def write_kalibr(path: Path, rig: Rig) -> None:
    """The rig as a chain in its own order; the first camera becomes the world."""
    data: dict[str, Any] = {}
    before: np.ndarray | None = None
    for i, (name, camera) in enumerate(rig.cameras.items()):
        K, T = need(camera, "Kalibr")
        fisheye = camera.model == "opencv_fisheye"
        dist = (
            np.concatenate([camera.dist, np.zeros(4)])[:4]
            if fisheye
            else need_pinhole(camera, "Kalibr", 4)
        )
        entry: dict[str, Any] = {}
        if before is not None:
            entry["T_cn_cnm1"] = (T @ invert(before)).tolist()
        before = T
        entry |= {
            "camera_model": "pinhole",
            "intrinsics": [float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])],
            "distortion_model": "equidistant" if fisheye else "radtan",
            "distortion_coeffs": dist.tolist(),
            "resolution": [camera.width, camera.height],
            "rostopic": f"/{name}/image_raw",
        }
        data[f"cam{i}"] = entry
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(dump_yaml(data), encoding="utf-8")


KALIBR = Format(
    "kalibr",
    "Kalibr's camchain.yaml",
    _recognizes,
    read_kalibr,
    write_kalibr,
    "camchain.yaml",
    suffixes=(".yaml", ".yml"),
)
