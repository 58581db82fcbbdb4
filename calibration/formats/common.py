"""What all readers and writers of other tools' formats share."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.atomic import atomic_path
from calibration.camera import NAME_PATTERN, Camera
from calibration.errors import CalibrationError
from calibration.rig import METRES, Rig
from calibration.rotations import matrix_from_vector

# Sizes of files that are read whole; the largest rigs take a few MB.
_MAX_BYTES = 50_000_000


@dataclass(frozen=True)
class ReadOptions:
    """What a file may leave open."""

    metres: float | None = None
    """Metres per unit of the file's translations; None: as the format says, else it is asked."""
    size: tuple[int, int] | None = None
    """px, width and height of all pictures, where the file does not state them."""
    names: tuple[str, ...] = ()
    """Names for cameras that the file only counts."""
    lenses_only: bool = False
    """Nobody asks for the translations, so their unit may stay open."""

    def metres_per_unit(self, stated: float | None, what: str) -> float:
        """The unit as stated, else as given.

        Raises:
            CalibrationError: neither says it, or they contradict each other.
        """
        metres = self.metres if stated is None else stated
        if stated and self.metres and not math.isclose(stated, self.metres):
            raise CalibrationError(
                f"{what} has its translations in {unit_name(stated)}, --units says "
                f"{unit_name(self.metres)}; leave out --units, or mend the file"
            )
        if metres is None and self.lenses_only:
            return 1.0
        if metres is None:
            raise CalibrationError(
                f"{what} does not say its unit of length; give --units m, cm, mm or the metres of "
                "one unit (a square of 25 mm: 0.025)"
            )
        return metres

    def picture_size(self, stated: tuple[Any, Any] | None, where: str) -> tuple[int, int]:
        """Width and height as stated, else as given.

        Raises:
            CalibrationError: neither says it.
        """
        if stated is not None and None not in stated:  # `agree` compares it with what is given
            return whole(stated[0], f"{where}: width"), whole(stated[1], f"{where}: height")
        if self.size is None:
            raise CalibrationError(
                f"{where}: the file does not say the picture's size; give --size 1920x1080"
            )
        return self.size

    def agree(self, rig: Rig) -> None:
        """CalibrationError where the size that was given is not the one that a file states."""
        for camera in rig.cameras.values():
            if self.size not in (None, (camera.width, camera.height)):
                given = "x".join(map(str, self.size or ()))
                raise CalibrationError(
                    f"camera '{camera.name}': the file says that its pictures are "
                    f"{camera.width}x{camera.height}, --size {given}; leave out --size, or mend "
                    "the file"
                )


@dataclass(frozen=True)
class Format:
    """One format of another tool."""

    name: str
    """As on the command line."""
    what: str
    """For people."""
    recognizes: Callable[[Path], bool]
    """Whether a file or folder is of this format, judged by its content."""
    read: Callable[[Path, ReadOptions], Rig]
    write: Callable[[Path, Rig], None]
    target: str = ""
    """How a file of this format is usually called; folders end in /."""
    parts: tuple[str, ...] = ()
    """The files that are written into a folder."""
    suffixes: tuple[str, ...] = ()
    """Of a single file, in lower case."""
    counts: bool = False
    """Cameras have no names in it, so that --names may give them."""


def parse_units(text: str | None) -> float | None:
    """`m`, `cm`, `mm` or a number of metres; None stays None."""
    if text is None:
        return None
    if text in METRES:
        return METRES[text]
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise CalibrationError(f"units '{text}': use m, cm, mm or a number of metres per unit")
    return value


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`1920x1080`; None stays None."""
    if text is None:
        return None
    match = re.fullmatch(r"0*([1-9]\d*)x0*([1-9]\d*)", text.strip().lower())
    if not match:
        raise CalibrationError(f"size '{text}': write width x height in pixels, as 1920x1080")
    return int(match[1]), int(match[2])


def parse_names(text: str | None) -> tuple[str, ...]:
    """`left,right`; None gives none."""
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not NAME_PATTERN.fullmatch(name):
            raise CalibrationError(
                f"names '{text}': '{name}' is no name; use letters, digits, _ and -, as left,right"
            )
    if len(set(names)) < len(names):
        raise CalibrationError(f"names '{text}': one name twice; give each camera its own")
    return names


def unit_name(metres: float) -> str:
    """m, cm or mm, else the number of metres."""
    return next((n for n, m in METRES.items() if math.isclose(m, metres)), f"units of {metres:g} m")


def camera_name(text: Any) -> str:
    """A name that rig.yaml allows, from another tool's."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "_", str(text)).strip("_")
    if not NAME_PATTERN.fullmatch(cleaned):
        raise CalibrationError(f"camera '{text}': bad name; use letters, digits, _ and - only")
    return cleaned


def rig_of(cameras: list[Camera], nothing: str) -> Rig:
    """A rig; CalibrationError for two of one name, or none (`nothing` says what was expected)."""
    by_name: dict[str, Camera] = {}
    for camera in cameras:
        if camera.name in by_name:
            raise CalibrationError(f"camera '{camera.name}' appears twice; rename one")
        by_name[camera.name] = camera
    if not by_name:
        raise CalibrationError(nothing)
    return Rig(by_name)


def whole(value: Any, where: str) -> int:
    """A whole number, also where a tool wrote 1280.0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise CalibrationError(f"{where} is {value!r}; expected a whole number of pixels")
    if float(value) != int(value):
        raise CalibrationError(f"{where} is {value!r}; expected a whole number of pixels")
    return int(value)


def numbers(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Finite float64 numbers of a shape; an entry of -1 takes any length.

    Raises:
        CalibrationError: anything else, beginning with `where`.
    """
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    fits = array.ndim == len(shape) and all(
        s in (-1, n) for s, n in zip(shape, array.shape, strict=True)
    )
    if not fits or not np.isfinite(array).all():
        size = "x".join("n" if s < 0 else str(s) for s in shape)
        raise CalibrationError(f"{where} must be {size} finite numbers")
    return array


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """(3, 3) K without skew."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def opencv_coefficients(values: Any, where: str) -> np.ndarray:
    """OpenCV's distortion vector of any length as 0, 4, 5 or 8 coefficients.

    OpenCV may write 12 or 14: thin prism and tilt, which are not supported unless they are zero.
    """
    array = numbers(np.ravel(np.array(values, dtype=object)), (-1,), f"{where}: distortion")
    used = int(np.flatnonzero(array).max()) + 1 if array.any() else 0
    if used > 8:
        raise CalibrationError(
            f"{where}: distortion has thin prism or tilt coefficients, which are not supported; "
            "calibrate with at most 8 coefficients"
        )
    for length in (0, 4, 5, 8):
        if len(array) == length or (len(array) not in (0, 4, 5, 8) and used <= length):
            break
    return np.concatenate([array, np.zeros(8)])[:length]


def fisheye_coefficients(values: Any, where: str) -> np.ndarray:
    """Four coefficients of the equidistant model; a fifth, which some tools write, must be zero."""
    array = numbers(np.ravel(np.array(values, dtype=object)), (-1,), f"{where}: distortion")
    if len(array) > 4 and array[4:].any():
        raise CalibrationError(f"{where}: fisheye distortion has {len(array)} numbers; expected 4")
    return np.concatenate([array, np.zeros(4)])[:4] if len(array) else array


def rotation(value: Any, where: str) -> np.ndarray:
    """(3, 3) from a matrix or from a rotation vector (axis times angle in radians)."""
    if np.shape(value) == (3, 3):
        return numbers(value, (3, 3), f"{where}: rotation")
    flat = np.ravel(np.array(value, dtype=object))
    return matrix_from_vector(numbers(flat, (3,), f"{where}: rotation"))


def need(camera: Camera, what: str) -> tuple[np.ndarray, np.ndarray]:
    """K and T_camera_world of a camera to be written; CalibrationError where one is unknown."""
    if camera.K is None or camera.T_camera_world is None:
        missing = "K" if camera.K is None else "T_camera_world"
        raise CalibrationError(
            f"camera '{camera.name}': {missing} is unknown, but {what} needs it; calibrate it first"
        )
    return camera.K, camera.T_camera_world


def need_pinhole(camera: Camera, what: str, most: int) -> np.ndarray:
    """(most,) OpenCV coefficients, padded with zeros; CalibrationError where the format has no
    place for this camera's lens."""
    if camera.model != "opencv":
        raise CalibrationError(f"camera '{camera.name}': {what} has no fisheye lenses")
    dist = np.concatenate([camera.dist, np.zeros(8)])
    if dist[most:].any():
        used = int(np.flatnonzero(dist).max()) + 1
        holds = f"{most} distortion coefficients" if most else "no distortion coefficients"
        raise CalibrationError(
            f"camera '{camera.name}': {what} has {holds}, this lens needs {used}; calibrate it "
            f"with --lens opencv{most}" + ("" if most else ", or undistort the pictures")
        )
    return dist[:most]


def read_json(path: Path, what: str) -> Any:
    """JSON of a file; CalibrationError names it."""
    try:
        return json.loads(read_text(path, what))
    except ValueError as error:
        raise CalibrationError(f"not valid JSON ({error}); expected {what}") from error


def read_text(path: Path, what: str) -> str:
    """Text of a file; CalibrationError where it cannot be read."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CalibrationError(f"too large for {what}; is it the right file?")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CalibrationError(f"cannot be read ({error.strerror}); expected {what}") from error
    except UnicodeDecodeError as error:
        raise CalibrationError(f"not a text file; expected {what}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def begins(path: Path, count: int = 20_000) -> str:
    """The beginning of a file as text, to recognize it by; empty for folders and missing files."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return stream.read(count).decode("utf-8", errors="replace")
