"""COLMAP: cameras and images, text or binary, in one folder.

World to camera, quaternion w first. COLMAP counts pixels from the corner of the picture, so that
the centre of the first pixel is (0.5, 0.5): principal points are shifted by half a pixel. Its unit
is arbitrary.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from calibration.atomic import atomic_path
from calibration.camera import Camera
from calibration.errors import CalibrationError
from calibration.formats.common import (
    Format,
    ReadOptions,
    camera_matrix,
    camera_name,
    need,
    numbers,
    read_text,
    rig_of,
    write_text,
)
from calibration.rig import Rig
from calibration.rotations import matrix_from_quaternion, quaternion_from_matrix, transform

# COLMAP's model numbers, and how many parameters each has.
MODELS = {
    "SIMPLE_PINHOLE": (0, 3),
    "PINHOLE": (1, 4),
    "SIMPLE_RADIAL": (2, 4),
    "RADIAL": (3, 5),
    "OPENCV": (4, 8),
    "OPENCV_FISHEYE": (5, 8),
    "FULL_OPENCV": (6, 12),
    "SIMPLE_RADIAL_FISHEYE": (8, 4),
    "RADIAL_FISHEYE": (9, 5),
}
_HALF = 0.5
_MAX_COUNT = 10_000_000


@dataclass(frozen=True, eq=False)
class _Lens:
    model: str
    width: int
    height: int
    parameters: np.ndarray


@dataclass(frozen=True, eq=False)
class _Image:
    name: str
    camera_id: int
    T: np.ndarray


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _recognizes(suffix: str) -> Callable[[Path], bool]:
    def recognizes(path: Path) -> bool:
        if path.is_file() and path.stem not in ("cameras", "images"):
            return False
        folder = _folder(path)
        return (folder / f"cameras{suffix}").is_file() and (folder / f"images{suffix}").is_file()

    return recognizes


def read_text_model(path: Path, options: ReadOptions) -> Rig:
    """cameras.txt and images.txt."""
    folder = _folder(path)
    lenses = {}
    for parts in _lines(folder / "cameras.txt"):
        if len(parts) < 5:
            raise CalibrationError(f"cameras.txt: '{' '.join(parts)}' is no camera")
        values = numbers(parts[4:], (-1,), f"cameras.txt: camera {parts[0]}")
        lenses[int(parts[0])] = _Lens(parts[1], int(parts[2]), int(parts[3]), values)
    images = []
    # Every image has a second line, of its 2D points, which may be empty.
    rows = [
        line
        for line in read_text(folder / "images.txt", "COLMAP's images.txt").splitlines()
        if not line.startswith("#")
    ]
    for row in rows[::2]:
        parts = row.split(maxsplit=9)
        if not parts:
            continue
        if len(parts) != 10:
            raise CalibrationError(f"images.txt: '{row}' is no image")
        pose = numbers(parts[1:8], (7,), f"images.txt: image {parts[0]}")
        T = transform(matrix_from_quaternion(pose[:4]), pose[4:])
        images.append(_Image(parts[9], int(parts[8]), T))
    return _rig(lenses, images, options)


def _lines(path: Path) -> Iterator[list[str]]:
    for line in read_text(path, f"COLMAP's {path.name}").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.split()


def read_binary_model(path: Path, options: ReadOptions) -> Rig:
    """cameras.bin and images.bin."""
    folder = _folder(path)
    try:
        lenses = _binary_cameras((folder / "cameras.bin").read_bytes())
        images = _binary_images((folder / "images.bin").read_bytes())
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise CalibrationError("cameras.bin or images.bin is damaged or cut off") from error
    return _rig(lenses, images, options)


def _binary_cameras(data: bytes) -> dict[int, _Lens]:
    names = {number: (name, count) for name, (number, count) in MODELS.items()}
    lenses, at = {}, 8
    for _ in range(_count(data, 0)):
        camera_id, model, width, height = struct.unpack_from("<iiQQ", data, at)
        at += 24
        if model not in names:
            raise CalibrationError(f"cameras.bin: camera model {model} is not supported")
        name, count = names[model]
        values = struct.unpack_from(f"<{count}d", data, at)
        at += 8 * count
        lenses[camera_id] = _Lens(name, width, height, np.array(values))
    return lenses


def _binary_images(data: bytes) -> list[_Image]:
    images, at = [], 8
    for _ in range(_count(data, 0)):
        values = struct.unpack_from("<i7di", data, at)
        at += 64
        end = data.index(0, at)
        name = data[at:end].decode("utf-8")
        at = end + 1
        # Each 2D point is two doubles and the number of its 3D point.
        at += 8 + 24 * _count(data, at)
        T = transform(matrix_from_quaternion(np.array(values[1:5])), np.array(values[5:8]))
        images.append(_Image(name, values[8], T))
    return images


def _count(data: bytes, at: int) -> int:
    (count,) = struct.unpack_from("<Q", data, at)
    if count > _MAX_COUNT:
        raise CalibrationError("cameras.bin or images.bin is damaged: it states too many entries")
    return count


def _rig(lenses: dict[int, _Lens], images: list[_Image], options: ReadOptions) -> Rig:
    metres = options.metres_per_unit(None, "a COLMAP model")
    # One picture a camera: names come from the files, or from the folders where all files are
    # called alike.
    paths = [PurePosixPath(image.name.replace("\\", "/")) for image in images]
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path.parent) for path in paths]
    if len(set(names)) < len(names):
        raise CalibrationError(
            "several pictures of one name: a rig has one picture a camera; keep one moment"
        )
    cameras = []
    for name, image in zip(names, images, strict=True):
        if image.camera_id not in lenses:
            raise CalibrationError(f"image {image.name}: there is no camera {image.camera_id}")
        T = image.T.copy()
        T[:3, 3] *= metres
        cameras.append(_camera(camera_name(name), lenses[image.camera_id], T))
    return rig_of(cameras, "images list no picture")


def _camera(name: str, lens: _Lens, T: np.ndarray) -> Camera:
    if lens.model not in MODELS:
        known = ", ".join(MODELS)
        raise CalibrationError(
            f"camera '{name}': COLMAP's model {lens.model} is not supported; undistort with "
            f"COLMAP, or use one of {known}"
        )
    if len(lens.parameters) != MODELS[lens.model][1]:
        raise CalibrationError(f"camera '{name}': {lens.model} has {len(lens.parameters)} numbers")
    p = lens.parameters
    simple = lens.model.startswith(("SIMPLE", "RADIAL"))
    fx, fy, rest = (p[0], p[0], p[1:]) if simple else (p[0], p[1], p[2:])
    terms = rest[2:]
    fisheye = "FISHEYE" in lens.model
    if fisheye:
        dist = np.concatenate([terms, np.zeros(4)])[:4]
    elif simple:
        dist = np.concatenate([terms, np.zeros(4)])[:4] if len(terms) else np.zeros(0)
    else:
        dist = terms
    K = camera_matrix(fx, fy, rest[0] - _HALF, rest[1] - _HALF)
    model = "opencv_fisheye" if fisheye else "opencv"
    return Camera(name, lens.width, lens.height, model, K, dist, T)


def _lens_of(camera: Camera) -> _Lens:
    K, _ = need(camera, "COLMAP")
    head = [K[0, 0], K[1, 1], K[0, 2] + _HALF, K[1, 2] + _HALF]
    dist = np.concatenate([camera.dist, np.zeros(8)])
    if camera.model == "opencv_fisheye":
        name, tail = "OPENCV_FISHEYE", dist[:4]
    elif not camera.dist.any():
        name, tail = "PINHOLE", dist[:0]
    elif not dist[4:].any():
        name, tail = "OPENCV", dist[:4]
    else:
        name, tail = "FULL_OPENCV", dist[:8]
    return _Lens(name, camera.width, camera.height, np.array([*head, *tail]))


def write_text_model(path: Path, rig: Rig) -> None:
    """cameras.txt, images.txt and an empty points3D.txt into the folder `path`; unit metre."""
    cameras = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    images = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[]"]
    for number, (name, camera) in enumerate(rig.cameras.items(), 1):
        lens = _lens_of(camera)
        values = " ".join(repr(float(v)) for v in lens.parameters)
        cameras.append(f"{number} {lens.model} {lens.width} {lens.height} {values}")
        _, T = need(camera, "COLMAP")
        pose = [*quaternion_from_matrix(T[:3, :3]), *T[:3, 3]]
        images += [f"{number} {' '.join(repr(float(v)) for v in pose)} {number} {name}.png", ""]
    write_text(path / "cameras.txt", "\n".join(cameras) + "\n")
    write_text(path / "images.txt", "\n".join(images) + "\n")
    write_text(path / "points3D.txt", "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]\n")


def write_binary_model(path: Path, rig: Rig) -> None:
    """cameras.bin, images.bin and an empty points3D.bin into the folder `path`; unit metre."""
    cameras, images = [struct.pack("<Q", len(rig.cameras))], [struct.pack("<Q", len(rig.cameras))]
    for number, (name, camera) in enumerate(rig.cameras.items(), 1):
        lens = _lens_of(camera)
        cameras.append(struct.pack("<iiQQ", number, MODELS[lens.model][0], lens.width, lens.height))
        cameras.append(struct.pack(f"<{len(lens.parameters)}d", *lens.parameters))
        _, T = need(camera, "COLMAP")
        pose = [*quaternion_from_matrix(T[:3, :3]), *T[:3, 3]]
        images.append(struct.pack("<i7di", number, *pose, number))
        images.append(f"{name}.png".encode() + b"\0" + struct.pack("<Q", 0))
    path.mkdir(parents=True, exist_ok=True)
    parts = {"cameras": cameras, "images": images, "points3D": [struct.pack("<Q", 0)]}
    for stem, chunks in parts.items():
        with atomic_path(path / f"{stem}.bin") as temporary:
            temporary.write_bytes(b"".join(chunks))


COLMAP_TEXT = Format(
    "colmap",
    "COLMAP model, text",
    _recognizes(".txt"),
    read_text_model,
    write_text_model,
    "colmap/",
    ("cameras.txt", "images.txt", "points3D.txt"),
)
COLMAP_BINARY = Format(
    "colmap-bin",
    "COLMAP model, binary",
    _recognizes(".bin"),
    read_binary_model,
    write_binary_model,
    "colmap/",
    ("cameras.bin", "images.bin", "points3D.bin"),
)
