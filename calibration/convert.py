"""Rigs of other tools: Caliscope's camera_array.toml and aniposelib's calibration.toml.

Both are TOML tables of OpenCV intrinsics with `rotation` and `translation` that map world to
camera. Caliscope works in metres; aniposelib keeps the unit of its board and does not state it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.atomic import atomic_path
from calibration.camera import NAME_PATTERN, Camera
from calibration.errors import CalibrationError
from calibration.rig import METRES, Rig
from calibration.safe_yaml import dump_yaml

VIDEO_SUFFIXES = frozenset(".mp4 .mov .mkv .avi .m4v .webm .mts .ts .mpg .mpeg .wmv".split())


def read_toml_rig(path: str | Path, units: str = "m") -> Rig:
    """Read either tool's file, told apart by its layout.

    Args:
        path: camera_array.toml or config.toml of Caliscope, or aniposelib's calibration file.
        units: unit of the translations, m, cm or mm.
    Returns:
        The rig in metres. Cameras are named as in the file; Caliscope's number k becomes cam_k, as
        its videos are called. Cameras marked `ignore` are left out.
    Raises:
        CalibrationError: one line that names file, camera and key.
    """
    path = Path(path)
    if units not in METRES:
        raise CalibrationError(f"units is '{units}'; use m, cm or mm")
    try:
        with path.open("rb") as stream:
            data = tomllib.load(stream)
    except FileNotFoundError as error:
        raise CalibrationError(
            f"{path}: no such file; expected a Caliscope or aniposelib .toml"
        ) from (error)
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: not valid TOML ({error})") from error
    try:
        return _parse(data, METRES[units])
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error


def _parse(data: dict[str, Any], metres: float) -> Rig:
    tables = data["cameras"] if isinstance(data.get("cameras"), dict) else data
    cameras: dict[str, Camera] = {}
    for section, entry in tables.items():
        if not isinstance(entry, dict) or "matrix" not in entry or entry.get("ignore") is True:
            continue
        name = _camera_name(section, entry)
        if name in cameras:
            raise CalibrationError(f"camera '{name}' appears twice; rename one")
        cameras[name] = _camera(name, entry, metres)
    if not cameras:
        raise CalibrationError(
            "no calibrated camera in it; expected [cameras.N] tables of Caliscope or [cam_N] "
            "tables of aniposelib with a 'matrix' each"
        )
    return Rig(cameras)


def _camera_name(section: str, entry: dict[str, Any]) -> str:
    """aniposelib's `name`; otherwise the section, a bare number k being Caliscope's cam_k."""
    name = entry.get("name")
    if name is None:
        name = f"cam_{section}" if section.isdigit() else section
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", str(name)).strip("_")
    if not NAME_PATTERN.fullmatch(cleaned):
        raise CalibrationError(f"camera '{name}': bad name; use letters, digits, _ and - only")
    return cleaned


def _camera(name: str, entry: dict[str, Any], metres: float) -> Camera:
    where = f"camera '{name}'"
    size = entry.get("size")
    if not isinstance(size, list) or len(size) != 2:
        raise CalibrationError(f"{where}: size is {size!r}; expected [width, height] in pixels")
    T = None
    if entry.get("rotation") is not None and entry.get("translation") is not None:
        T = np.eye(4)
        T[:3, :3] = _rotation(entry["rotation"], where)
        T[:3, 3] = _numbers(entry["translation"], (3,), f"{where}: translation") * metres
    return Camera(
        name=name,
        width=size[0],
        height=size[1],
        model="opencv_fisheye" if entry.get("fisheye") is True else "opencv",
        K=_numbers(entry["matrix"], (3, 3), f"{where}: matrix"),
        dist=np.array(entry.get("distortions", []), dtype=np.float64).ravel(),
        T_camera_world=T,
    )


def _rotation(value: Any, where: str) -> np.ndarray:
    """(3, 3) from a matrix or from a rotation vector (axis times angle in radians)."""
    if np.shape(value) == (3, 3):
        return _numbers(value, (3, 3), f"{where}: rotation")
    vector = _numbers(value, (3,), f"{where}: rotation")
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _numbers(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != shape or not np.isfinite(array).all():
        raise CalibrationError(f"{where} must be {'x'.join(map(str, shape))} finite numbers")
    return array


@dataclass(frozen=True)
class TakeFiles:
    """What `write_take` found."""

    videos: dict[str, Path]
    """By camera name, in the rig's order."""
    missing: tuple[str, ...]
    """Cameras of the rig without a video; left out of the take."""


def write_take(
    path: str | Path,
    rig_path: str | Path,
    cameras: Iterable[str],
    folder: str | Path,
    timestamps: str | Path | None = None,
) -> TakeFiles:
    """Write a take.yaml that joins a rig's cameras with the videos of a folder.

    A video belongs to the camera whose name is its stem, or a part of its stem between - _ . and
    spaces, or whose number its stem ends in. Paths are written relative to take.yaml.

    Args:
        path: take.yaml to write.
        rig_path: the rig.yaml it refers to.
        cameras: the rig's camera names.
        folder: holds the videos.
        timestamps: table of frame times (cam_id, frame_time, ...), if there is one.
    Raises:
        CalibrationError: no folder, no video for any camera, or two for one.
    """
    path, folder = Path(path), Path(folder)
    if not folder.is_dir():
        raise CalibrationError(f"{folder}: no such folder of videos")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in VIDEO_SUFFIXES)
    found = {name: _video_of(name, files, folder) for name in cameras}
    videos = {name: file for name, file in found.items() if file is not None}
    if not videos:
        raise CalibrationError(
            f"{folder}: no video belongs to the cameras {', '.join(found)}; name the files after "
            "them"
        )
    data: dict[str, Any] = {
        "rig": _relative(rig_path, path),
        "cameras": {name: _relative(file, path) for name, file in videos.items()},
    }
    if timestamps is not None:
        data["sync"] = _relative(timestamps, path)
    with atomic_path(path) as temporary:
        temporary.write_text(dump_yaml(data), encoding="utf-8")
    return TakeFiles(videos, tuple(name for name, file in found.items() if file is None))


def _video_of(name: str, files: list[Path], folder: Path) -> Path | None:
    tests = (
        lambda stem: stem == name,
        lambda stem: name in re.split(r"[-_. ]+", stem),
        lambda stem: _final_number(stem) is not None and _final_number(stem) == _final_number(name),
    )
    for test in tests:
        matching = [file for file in files if test(file.stem)]
        if len(matching) > 1:
            names = " and ".join(file.name for file in matching[:2])
            raise CalibrationError(
                f"{folder}: {names} could both be camera '{name}'; keep one, named {name}"
            )
        if matching:
            return matching[0]
    return None


def _final_number(text: str) -> int | None:
    match = re.search(r"(\d+)$", text)
    return int(match[1]) if match else None


def _relative(target: str | Path, file: Path) -> str:
    """`target` as seen from the folder of `file`; absolute when they share only the root."""
    goal, home = Path(target).resolve(), file.resolve().parent
    if os.path.commonpath([goal, home]) == os.path.sep:
        return goal.as_posix()
    return Path(os.path.relpath(goal, home)).as_posix()
