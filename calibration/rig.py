"""`rig.yaml`: reading, checking and writing. The format is fixed; docs/takes.md describes it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from calibration.atomic import atomic_path
from calibration.camera import STD_KEYS, Camera
from calibration.errors import CalibrationError
from calibration.keys import check_keys, suggestion
from calibration.safe_yaml import dump_yaml, load_yaml

VERSION = 1
METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
RIG_KEYS = ("version", "units", "up", "cameras")
CAMERA_KEYS = ("width", "height", "model", "K", "dist", "T_camera_world", "std")


@dataclass(frozen=True, eq=False)
class Rig:
    """Cameras in one world, metres."""

    cameras: dict[str, Camera] = field(default_factory=dict)
    """By name, in the file's order."""
    up: np.ndarray | None = None
    """(3,) float64 unit vector, world; None: not known."""
    path: Path | None = None
    """File that it was read from, for messages."""
    units: str = "m"
    """Of the translations in that file; here they are metres."""

    def __post_init__(self) -> None:
        for name, camera in self.cameras.items():
            if name != camera.name:
                raise CalibrationError(f"camera '{camera.name}' is filed under the name '{name}'")
        if self.up is not None:
            object.__setattr__(self, "up", _unit_vector(self.up))


def read_rig(path: str | Path) -> Rig:
    """Read and check rig.yaml.

    Returns:
        The rig in metres, whatever unit the file states.
    Raises:
        CalibrationError: one line that names file, camera, key and what to do.
    """
    data = load_yaml(path, "rig file")
    try:
        return replace(_parse_rig(data), path=Path(path))
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error


def write_rig(path: str | Path, rig: Rig) -> None:
    """Write rig.yaml atomically, in metres. Numbers keep their full precision."""
    data: dict[str, Any] = {"version": VERSION, "units": "m"}
    if rig.up is not None:
        data["up"] = [float(value) for value in rig.up]
    data["cameras"] = {name: _camera_data(camera) for name, camera in rig.cameras.items()}
    with atomic_path(path) as temporary:
        temporary.write_text(dump_yaml(data), encoding="utf-8")


def is_take_file(data: dict[str, Any]) -> bool:
    """Whether this names recordings for cameras, as take.yaml does, instead of describing them."""
    cameras = data.get("cameras")
    names = cameras.values() if isinstance(cameras, dict) else ()
    return "rig" in data or any(isinstance(value, str) for value in names)


def _parse_rig(data: dict[str, Any]) -> Rig:
    if is_take_file(data):
        raise CalibrationError("this is a take file, which names recordings; give its rig.yaml")
    if "cameras" not in data and "version" not in data:
        raise CalibrationError(
            "not a rig file: it has neither 'version' nor 'cameras'; give a rig.yaml"
        )
    check_keys(data, RIG_KEYS, "rig file")
    version = data.get("version")
    if version != VERSION or isinstance(version, bool):
        raise CalibrationError(f"version is {version!r}; this densefit reads version {VERSION}")
    units = data.get("units", "m")
    if not isinstance(units, str) or units not in METRES:
        raise CalibrationError(f"units is {units!r}; use m, cm or mm")
    cameras = data.get("cameras")
    if not isinstance(cameras, dict) or not cameras:
        raise CalibrationError(
            "cameras is empty or not a mapping; list at least one camera by name"
        )
    return Rig(
        cameras={
            name: _parse_camera(name, entry, METRES[units]) for name, entry in cameras.items()
        },
        up=None if data.get("up") is None else _unit_vector(data["up"]),
        units=units,
    )


def _parse_camera(name: str, entry: Any, metres: float) -> Camera:
    where = f"camera '{name}'"
    if not isinstance(entry, dict):
        raise CalibrationError(f"{where}: not a mapping; give width, height, K, ...")
    check_keys(entry, CAMERA_KEYS, where)
    for key in ("width", "height"):
        if key not in entry:
            raise CalibrationError(f"{where}: {key} is missing; give the picture's size in pixels")
    for key in ("K", "dist", "T_camera_world"):
        _check_numbers(entry.get(key), f"{where}: {key}")
    T = entry.get("T_camera_world")
    # Only a matrix of the right shape can be scaled; Camera says what is wrong with any other.
    if _is_4x4(T):
        T = np.array(T, dtype=np.float64)
        T[:3, 3] *= metres
    std = entry.get("std")
    if std is not None:
        if not isinstance(std, dict):
            raise CalibrationError(f"{where}: std is not a mapping; give {', '.join(STD_KEYS)}")
        check_keys(std, STD_KEYS, f"{where}: std")
        _check_numbers(list(std.values()), f"{where}: std")
        std = {k: v * metres if k == "translation" else v for k, v in std.items()}
    dist = entry.get("dist")
    return Camera(
        name=name,
        width=entry["width"],
        height=entry["height"],
        model=entry.get("model", "opencv"),
        K=entry.get("K"),
        dist=np.zeros(0) if dist is None else dist,
        T_camera_world=T,
        std=std,
    )


def _is_4x4(value: Any) -> bool:
    rows = isinstance(value, list) and len(value) == 4
    return rows and all(
        isinstance(row, list) and len(row) == 4 and not any(isinstance(x, list) for x in row)
        for row in value
    )


def _check_numbers(value: Any, where: str) -> None:
    """Refuse text, booleans and nulls inside nested lists: numpy would convert some of them."""
    if value is None:
        return
    if not isinstance(value, list):
        raise CalibrationError(f"{where} is {value!r}; give a list of numbers")
    for item in _leaves(value):
        if isinstance(item, bool) or not isinstance(item, int | float):
            raise CalibrationError(f"{where} holds {item!r}; give numbers only")
        if isinstance(item, int) and abs(item) > sys.float_info.max:
            raise CalibrationError(f"{where} holds a number of hundreds of digits; mend it")


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _unit_vector(value: Any) -> np.ndarray:
    try:
        vector = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        vector = np.full(3, np.nan)
    length = np.linalg.norm(vector)
    if vector.shape != (3,) or not np.isfinite(length) or length < 1e-12:
        raise CalibrationError(f"up is {value!r}; give three numbers, the world direction upwards")
    vector /= length
    vector.setflags(write=False)
    return vector


def _camera_data(camera: Camera) -> dict[str, Any]:
    data: dict[str, Any] = {
        "width": camera.width,
        "height": camera.height,
        "model": camera.model,
    }
    if camera.K is not None:
        data["K"] = camera.K.tolist()
    data["dist"] = camera.dist.tolist()
    if camera.T_camera_world is not None:
        data["T_camera_world"] = camera.T_camera_world.tolist()
    if camera.std is not None:
        data["std"] = dict(camera.std)
    return data


def unknown_camera(name: str, rig: Rig) -> str:
    """Message for a camera that a rig lacks, with the nearest name."""
    return f"camera '{name}' is not in the rig{suggestion(name, rig.cameras)}"
