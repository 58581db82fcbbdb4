"""OpenCV FileStorage (.yml, .xml, .json): one camera, a stereo pair, and EasyMocap's pair of files.

Written by OpenCV itself; see opencv_text for how it is read.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    camera_name,
    need,
    need_pinhole,
    numbers,
    opencv_coefficients,
    rig_of,
    rotation,
)
from calibration.formats.opencv_text import read_storage
from calibration.rig import Rig
from calibration.rotations import transform, vector_from_matrix

_MATRIX = ("camera_matrix", "cameraMatrix", "Camera_Matrix", "K", "M", "mtx", "intrinsic_matrix")
_DIST = (
    "distortion_coefficients",
    "Distortion_Coefficients",
    "distCoeffs",
    "dist_coeffs",
    "dist_coeff",
    "dist",
    "D",
)
_WIDTH = ("image_width", "image_Width", "width")
_HEIGHT = ("image_height", "image_Height", "height")
# Keys of a pair: the first camera's, then the second's.
_PAIRS = (
    ("M1", "D1", "M2", "D2"),
    ("K1", "D1", "K2", "D2"),
    ("cameraMatrix1", "distCoeffs1", "cameraMatrix2", "distCoeffs2"),
)
_SUFFIXES = (".yml", ".yaml", ".xml", ".json")


class _Storage:
    """A FileStorage file read into plain values."""

    def __init__(self, path: Path) -> None:
        self.values = read_storage(path)

    def first(self, keys: Iterable[str]) -> Any:
        """The value of the first key that is there, or None."""
        return next((self.values[k] for k in keys if self.values.get(k) is not None), None)


def _is_storage(path: Path) -> bool:
    text = begins(path)
    return path.suffix.lower() in _SUFFIXES and (
        "opencv-matrix" in text or "opencv_storage" in text
    )


def _extrinsics_beside(path: Path) -> Path | None:
    """OpenCV's stereo sample writes intrinsics.yml and extrinsics.yml side by side."""
    if "intrinsic" not in path.stem.lower():
        return None
    name = path.name.replace("intrinsic", "extrinsic").replace("Intrinsic", "Extrinsic")
    other = path.with_name(name)
    return other if other.is_file() else None


def _recognizes_opencv(path: Path) -> bool:
    if not _is_storage(path) or _recognizes_easymocap(path):
        return False
    values = _Storage(path).values
    return any(set(pair) & set(values) for pair in _PAIRS) or any(k in values for k in _MATRIX)


def read_opencv(path: Path, options: ReadOptions) -> Rig:
    """One camera or a stereo pair.

    A pair is called left and right unless names are given; the first camera is the world, and
    R, T map the first camera's frame to the second's. They may lie in extrinsics.yml beside
    intrinsics.yml.
    """
    storage = _Storage(path)
    for pair in _PAIRS:
        if pair[0] in storage.values and pair[2] in storage.values:
            return _read_pair(path, storage, pair, options)
    K = storage.first(_MATRIX)
    name = options.names[0] if options.names else camera_name(path.stem)
    if K is None:
        raise CalibrationError(f"no camera matrix in it; expected a key such as {_MATRIX[0]}")
    return rig_of([_camera(name, K, storage.first(_DIST), storage, None, options)], "")


def _read_pair(path: Path, storage: _Storage, keys: tuple[str, ...], options: ReadOptions) -> Rig:
    names = options.names or ("left", "right")
    if len(names) != 2:
        raise CalibrationError(f"it holds two cameras, --names gives {len(names)}")
    R, T = storage.values.get("R"), storage.values.get("T")
    beside = _extrinsics_beside(path)
    if R is None and beside is not None:
        extrinsics = _Storage(beside)
        R, T = extrinsics.values.get("R"), extrinsics.values.get("T")
    first = second = None
    if R is not None and T is not None:
        metres = options.metres_per_unit(None, "a stereo calibration of OpenCV")
        shift = numbers(np.ravel(T), (3,), "T") * metres
        first, second = np.eye(4), transform(rotation(R, "R"), shift)
    values = storage.values
    return rig_of(
        [
            _camera(names[0], values[keys[0]], values.get(keys[1]), storage, first, options),
            _camera(names[1], values[keys[2]], values.get(keys[3]), storage, second, options),
        ],
        "",
    )


def _camera(
    name: str, K: Any, dist: Any, storage: _Storage, T: np.ndarray | None, options: ReadOptions
) -> Camera:
    where = f"camera '{name}'"
    size = storage.values.get("image_size") or storage.values.get("imageSize")
    stated = (storage.first(_WIDTH), storage.first(_HEIGHT))
    if isinstance(size, list) and len(size) == 2:
        stated = (size[0], size[1])
    width, height = options.picture_size(stated, where)
    model = "opencv"
    if str(storage.first(("distortion_model", "camera_model"))) in ("fisheye", "equidistant"):
        model = "opencv_fisheye"
    return Camera(
        name,
        width,
        height,
        model,
        numbers(K, (3, 3), f"{where}: camera matrix"),
        opencv_coefficients([] if dist is None else dist, where),
        T,
    )


def _write(path: Path, values: dict[str, Any]) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        storage = cv2.FileStorage(str(temporary), cv2.FILE_STORAGE_WRITE)
        for key, value in values.items():
            if isinstance(value, list):
                storage.startWriteStruct(key, cv2.FileNode_SEQ)
                for item in value:
                    storage.write("", item)
                storage.endWriteStruct()
            else:
                storage.write(key, value)
        storage.release()


def write_opencv(path: Path, rig: Rig) -> None:
    """One camera, or two as M1, D1, M2, D2, R, T in metres; the first becomes the world."""
    cameras = list(rig.cameras.values())
    if len(cameras) > 2:
        raise CalibrationError(
            f"an OpenCV file holds one camera or a pair, this rig has {len(cameras)}; write "
            "easymocap or another format"
        )
    if len(cameras) == 1:
        camera = cameras[0]
        if camera.K is None:
            raise CalibrationError(f"camera '{camera.name}': K is unknown; calibrate it first")
        values = {
            "image_width": camera.width,
            "image_height": camera.height,
            "camera_matrix": np.array(camera.K),
            "distortion_coefficients": _dist_row(camera),
        }
        if camera.model == "opencv_fisheye":
            values["distortion_model"] = "fisheye"
        _write(path, values)
        return
    first, second = cameras
    if (first.width, first.height) != (second.width, second.height) or first.model != second.model:
        raise CalibrationError(
            f"cameras '{first.name}' and '{second.name}' differ in picture size or lens model; an "
            "OpenCV stereo file holds one of each: write another format"
        )
    (K1, T1), (K2, T2) = need(first, "OpenCV"), need(second, "OpenCV")
    relative = T2 @ np.linalg.inv(T1)
    values = {
        "image_width": first.width,
        "image_height": first.height,
        "M1": np.array(K1),
        "D1": _dist_row(first),
        "M2": np.array(K2),
        "D2": _dist_row(second),
        "R": np.ascontiguousarray(relative[:3, :3]),
        "T": np.ascontiguousarray(relative[:3, 3:]),
    }
    if first.model == "opencv_fisheye":
        values["distortion_model"] = "fisheye"
    _write(path, values)


def _dist_row(camera: Camera) -> np.ndarray:
    length = max(len(camera.dist), 4 if camera.model == "opencv_fisheye" else 5)
    return np.concatenate([camera.dist, np.zeros(8)])[None, :length]


def _easymocap_files(path: Path) -> tuple[Path, Path]:
    folder = path if path.is_dir() else path.parent
    return folder / "intri.yml", folder / "extri.yml"


def _recognizes_easymocap(path: Path) -> bool:
    intri, _ = _easymocap_files(path)
    if not (path.is_dir() or path.name in ("intri.yml", "extri.yml")):
        return False
    return intri.is_file() and "names" in begins(intri)


def read_easymocap(path: Path, options: ReadOptions) -> Rig:
    """intri.yml and extri.yml: K_name, dist_name, R_name (a rotation vector) and T_name, metres."""
    intri_path, extri_path = _easymocap_files(path)
    intri = _Storage(intri_path).values
    extri = _Storage(extri_path).values if extri_path.is_file() else {}
    names = intri.get("names")
    if not isinstance(names, list):
        raise CalibrationError("intri.yml has no list 'names'; is it EasyMocap's?")
    metres = options.metres_per_unit(1.0, "EasyMocap")
    cameras = []
    for name in map(str, names):
        where = f"camera '{name}'"
        if intri.get(f"K_{name}") is None:
            raise CalibrationError(f"{where}: intri.yml has no K_{name}")
        T = None
        turned = extri.get(f"Rot_{name}")
        turned = extri.get(f"R_{name}") if turned is None else turned
        if turned is not None and extri.get(f"T_{name}") is not None:
            shift = numbers(np.ravel(extri[f"T_{name}"]), (3,), f"{where}: T") * metres
            T = transform(rotation(turned, where), shift)
        stated = (intri.get(f"W_{name}"), intri.get(f"H_{name}"))
        dist = intri.get(f"dist_{name}", intri.get(f"D_{name}"))
        cameras.append(
            Camera(
                camera_name(name),
                *options.picture_size(stated, where),
                "opencv",
                numbers(intri[f"K_{name}"], (3, 3), f"{where}: K"),
                opencv_coefficients([] if dist is None else dist, where),
                T,
            )
        )
    return rig_of(cameras, "intri.yml names no camera")


def write_easymocap(path: Path, rig: Rig) -> None:
    """Both files into the folder `path`, or beside it where it is named like one of them."""
    intri: dict[str, Any] = {"names": list(rig.cameras)}
    extri: dict[str, Any] = {"names": list(rig.cameras)}
    for name, camera in rig.cameras.items():
        K, T = need(camera, "EasyMocap")
        intri[f"K_{name}"] = np.array(K)
        intri[f"dist_{name}"] = need_pinhole(camera, "EasyMocap", 5)[None]
        intri[f"H_{name}"], intri[f"W_{name}"] = camera.height, camera.width
        extri[f"R_{name}"] = vector_from_matrix(T[:3, :3])[:, None]
        extri[f"Rot_{name}"] = np.ascontiguousarray(T[:3, :3])
        extri[f"T_{name}"] = np.ascontiguousarray(T[:3, 3:])
    folder = path.parent if path.name in ("intri.yml", "extri.yml") else path
    _write(folder / "intri.yml", intri)
    _write(folder / "extri.yml", extri)


OPENCV = Format(
    "opencv",
    "OpenCV FileStorage, one camera or stereo",
    _recognizes_opencv,
    read_opencv,
    write_opencv,
    "camera.yml",
    suffixes=_SUFFIXES,
    counts=True,
)
EASYMOCAP = Format(
    "easymocap",
    "EasyMocap's intri.yml and extri.yml",
    _recognizes_easymocap,
    read_easymocap,
    write_easymocap,
    "easymocap/",
    ("intri.yml", "extri.yml"),
)
