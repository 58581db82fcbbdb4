"""TOML calibrations: aniposelib and what descends from it (FreeMoCap, Pose2Sim), and Caliscope.

All are tables of OpenCV intrinsics with `rotation` and `translation` that map world to camera;
they differ in the unit and in how cameras are called. Cameras are joined by name, never by order.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np

from calibration.camera import Camera
from calibration.errors import CalibrationError
from calibration.formats.common import (
    Format,
    ReadOptions,
    camera_name,
    fisheye_coefficients,
    need,
    numbers,
    opencv_coefficients,
    rig_of,
    rotation,
    write_text,
)
from calibration.rig import Rig
from calibration.rotations import vector_from_matrix
from calibration.safe_toml import load_toml

# Metres per unit; aniposelib keeps the unit of its board and does not state it.
_UNITS = {"caliscope": 1.0, "freemocap": 0.001, "pose2sim": 1.0, "aniposelib": None}


def dialect(data: dict[str, Any]) -> str:
    """Which tool wrote a table; "" when none of them."""
    if isinstance(data.get("cameras"), dict):
        return "caliscope"
    by_name = {k: v for k, v in data.items() if isinstance(v, dict) and "matrix" in v}
    if not by_name:
        return ""
    tables = list(by_name.values())
    metadata = data.get("metadata")
    notes = set(metadata) if isinstance(metadata, dict) else set()
    if any("cam_id" in table or "verified_resolutions" in table for table in tables):
        return "caliscope"
    if any("world_position" in table for table in tables) or notes & {
        "charuco_square_size",
        "path_to_recorded_videos",
        "date_time_calibrated",
        "groundplane_calibration",
    }:
        return "freemocap"
    # aniposelib counts its tables and writes `fisheye` for fisheye cameras only, Pose2Sim calls
    # tables like cameras and writes it for all.
    lenses = [table.get("fisheye") for table in tables]
    counted = all(re.fullmatch(r"cam_\d+", name) for name in by_name)
    if False in lenses or (None not in lenses and not counted):
        return "pose2sim"
    return "aniposelib"


def _recognizer(name: str) -> Any:
    def recognizes(path: Path) -> bool:
        if path.suffix.lower() != ".toml" or not path.is_file():
            return False
        return dialect(load_toml(path, "calibration .toml")) == name

    return recognizes


def _reader(which: str) -> Any:
    def read(path: Path, options: ReadOptions) -> Rig:
        return read_toml(path, options, which)

    return read


def read_toml(path: Path, options: ReadOptions, which: str) -> Rig:
    """Read a table in the unit of a dialect, a key of _UNITS.

    Cameras marked `ignore` are left out. Caliscope's number k becomes cam_k, as its videos are
    called.
    """
    data = load_toml(path, "calibration .toml")
    tables = data["cameras"] if isinstance(data.get("cameras"), dict) else data
    chosen = {
        section: entry
        for section, entry in tables.items()
        if isinstance(entry, dict) and "matrix" in entry and entry.get("ignore") is not True
    }
    placed = any(entry.get("translation") is not None for entry in chosen.values())
    metres = 1.0
    if placed:
        metres = options.metres_per_unit(_UNITS.get(which), f"a .toml of {which}")
    cameras = [_camera(_name(section, entry), entry, metres) for section, entry in chosen.items()]
    return rig_of(
        cameras,
        "no calibrated camera in it; expected [cameras.N] tables of Caliscope or [cam_N] tables of "
        "aniposelib, FreeMoCap or Pose2Sim with a 'matrix' each",
    )


def _name(section: str, entry: dict[str, Any]) -> str:
    """The table's `name`; otherwise the section, a bare number k being Caliscope's cam_k."""
    name = entry.get("name")
    if name is None:
        name = f"cam_{section}" if section.isdigit() else section
    return camera_name(name)


def _camera(name: str, entry: dict[str, Any], metres: float) -> Camera:
    where = f"camera '{name}'"
    size = entry.get("size")
    if not isinstance(size, list) or len(size) != 2:
        raise CalibrationError(f"{where}: size is {size!r}; expected [width, height] in pixels")
    T = None
    if entry.get("rotation") is not None and entry.get("translation") is not None:
        T = np.eye(4)
        T[:3, :3] = rotation(entry["rotation"], where)
        T[:3, 3] = numbers(entry["translation"], (3,), f"{where}: translation") * metres
    fisheye = entry.get("fisheye") is True
    read_lens = fisheye_coefficients if fisheye else opencv_coefficients
    return Camera(
        name=name,
        # Pose2Sim writes sizes as 1280.0.
        width=int(size[0]) if isinstance(size[0], float) else size[0],
        height=int(size[1]) if isinstance(size[1], float) else size[1],
        model="opencv_fisheye" if fisheye else "opencv",
        K=numbers(entry["matrix"], (3, 3), f"{where}: matrix"),
        dist=read_lens(entry.get("distortions", []), where),
        T_camera_world=T,
    )


def _row(values: np.ndarray) -> str:
    return "[" + ", ".join(repr(float(v)) for v in values) + "]"


def _writer(which: str) -> Any:
    def write(path: Path, rig: Rig) -> None:
        lines: list[str] = []
        numbers = _numbers(rig) if which == "caliscope" else range(len(rig.cameras))
        for number, (name, camera) in zip(numbers, rig.cameras.items(), strict=True):
            lines += _table(which, number, name, camera)
        if which != "caliscope":
            lines += ["[metadata]", "adjusted = false", "error = 0.0"]
            if which == "freemocap":
                # By this key its files are known, and with it their unit.
                lines.append('date_time_calibrated = ""')
        write_text(path, "\n".join(lines) + "\n")

    return write


def _numbers(rig: Rig) -> list[int]:
    """A number for each camera: k for cam_k, as Caliscope calls it, and free ones for the rest."""
    matches = [re.fullmatch(r"(?:cam_)?(0|[1-9]\d*)", name) for name in rig.cameras]
    own = [None if match is None else int(match[1]) for match in matches]
    # Both cam_3 and 3 may be there: the first takes the number.
    own = [None if number in own[:i] else number for i, number in enumerate(own)]
    free = (number for number in itertools.count() if number not in own)
    return [next(free) if number is None else number for number in own]


def _table(which: str, number: int, name: str, camera: Camera) -> list[str]:
    K, T = need(camera, f"a .toml of {which}")
    scale = _UNITS[which] or 1.0
    fisheye = camera.model == "opencv_fisheye"
    dist = np.concatenate([camera.dist, np.zeros(5)])
    dist = dist[: 4 if fisheye else max(len(camera.dist), 5)]
    head = f"[{name}]" if which == "pose2sim" else f"[cam_{number}]"
    lines = [head]
    if which == "caliscope":
        lines = [f"[cameras.{number}]", f"cam_id = {number}", "ignore = false"]
        lines += [f'name = "{name}"'] if name != f"cam_{number}" else []
    else:
        lines.append(f'name = "{name}"')
    lines.append(f"size = [{camera.width}, {camera.height}]")
    lines.append("matrix = [" + ", ".join(_row(row) for row in K) + "]")
    lines.append(f"distortions = {_row(dist)}")
    turned = (
        "[" + ", ".join(_row(row) for row in T[:3, :3]) + "]"
        if which == "caliscope"
        else _row(vector_from_matrix(T[:3, :3]))
    )
    lines.append(f"rotation = {turned}")
    lines.append(f"translation = {_row(T[:3, 3] / scale)}")
    if which == "pose2sim" or fisheye:
        lines.append(f"fisheye = {'true' if fisheye else 'false'}")
    return [*lines, ""]


ANIPOSELIB = Format(
    "aniposelib",
    "aniposelib's calibration.toml",
    _recognizer("aniposelib"),
    _reader("aniposelib"),
    _writer("aniposelib"),
    "calibration.toml",
    suffixes=(".toml",),
)
CALISCOPE = Format(
    "caliscope",
    "Caliscope's camera_array.toml",
    _recognizer("caliscope"),
    _reader("caliscope"),
    _writer("caliscope"),
    "camera_array.toml",
    suffixes=(".toml",),
)
FREEMOCAP = Format(
    "freemocap",
    "FreeMoCap's camera calibration .toml",
    _recognizer("freemocap"),
    _reader("freemocap"),
    _writer("freemocap"),
    "camera_calibration.toml",
    suffixes=(".toml",),
)
POSE2SIM = Format(
    "pose2sim",
    "Pose2Sim's Calib.toml",
    _recognizer("pose2sim"),
    _reader("pose2sim"),
    _writer("pose2sim"),
    "Calib.toml",
    suffixes=(".toml",),
)
