"""A take: the recordings of all cameras, their rig, and how their clocks relate."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration import CalibrationError, Camera, Rig, read_rig
from calibration.camera import NAME_PATTERN
from calibration.keys import check_keys
from calibration.rig import is_take_file, unknown_camera
from calibration.safe_yaml import load_yaml
from densefit.capture.events import event_offsets
from densefit.capture.source import DEFAULT_FPS, Source, open_source
from densefit.capture.sync_table import SyncTable, read_sync_table
from densefit.errors import InputError, UsageError
from densefit.progress import info

TAKE_KEYS = ("rig", "cameras", "sync", "offsets", "clock_rates")
EVENT_SYNC = ("clap", "flash")
SYNC_MODES = ("auto", "pts", "timecode", "frames", *EVENT_SYNC)

# Consumer cameras drift by some 100 ppm; a rate beyond this is a mistake in the file.
_MAX_CLOCK_ERROR = 0.05
# s: a century, so that clocks that count from 1970 have room.
_MAX_OFFSET = 4e9


@dataclass(frozen=True, eq=False)
class Take:
    """All recordings of one performance, opened and checked."""

    name: str
    sources: dict[str, Source]
    """By camera name, in the take's order."""
    rig: Rig | None
    """As in rig.yaml, of all its cameras; None without one."""
    offsets: dict[str, float] = field(default_factory=dict)
    """Seconds for every camera: t_master = clock_rate * t_camera + offset."""
    clock_rates: dict[str, float] = field(default_factory=dict)
    """Master seconds per camera second, for every camera."""
    sync: str = "auto"
    """auto, pts, timecode, frames or csv."""
    sync_table: SyncTable | None = None
    """Where sync is csv: when each frame was taken."""
    independent_frames: bool = False
    """The frames are separate photos: no motion from one to the next."""

    def camera(self, name: str) -> Camera:
        """The calibration for a camera's recording, K scaled to its picture.

        Without a rig, a Camera of the picture's size whose K and T_camera_world are None.
        """
        source = self.sources[name]
        if self.rig is None:
            return Camera(name, source.width, source.height)
        return self.rig.cameras[name].scaled_to(source.width, source.height)


def load_take(
    inputs: Sequence[str | Path],
    *,
    sync: str | None = None,
    sequence: bool = False,
    strict: bool = False,
    fps: float = DEFAULT_FPS,
    with_rig: bool = True,
) -> Take:
    """Open and check everything a command was given.

    Args:
        inputs: take.yaml (or its folder), one video, one photo, a folder of photos, a numbered
            pattern, or rig.yaml followed by recordings whose stems name the rig's cameras.
        sync: replaces the take's own sync: auto, pts, timecode, frames, clap, flash or the path of
            a .csv.
        sequence: a folder of pictures is a film, not separate photos.
        strict: refuse damaged recordings.
        fps: of image sequences.
        with_rig: read the rig that a take file names; without, several cameras need none.
    Raises:
        InputError: one line that names the file and what to do.
    """
    paths = [Path(item) for item in inputs]
    if not paths:
        raise InputError("no input; give a take.yaml, a video, a photo or a folder of photos")
    options = _Options(sync, sequence, strict, fps, with_rig)
    try:
        if len(paths) == 1:
            return _load_one(paths[0], options)
        return _load_rig_and_videos(paths, options)
    except CalibrationError as error:
        raise InputError(str(error)) from error


@dataclass(frozen=True)
class _Options:
    sync: str | None
    sequence: bool
    strict: bool
    fps: float
    with_rig: bool


def _load_one(path: Path, options: _Options) -> Take:
    if path.is_dir() and (path / "take.yaml").is_file():
        path = path / "take.yaml"
    if _is_yaml(path):
        return _load_take_file(path, options)
    name = _camera_name(path)
    source = open_source(
        name,
        path,
        separate_photos=not options.sequence,
        fps=options.fps,
        strict=options.strict,
    )
    return _make_take(name, {name: source}, None, {}, path, options)


def _load_rig_and_videos(paths: list[Path], options: _Options) -> Take:
    if not _is_yaml(paths[0]):
        raise InputError(
            f"{paths[0]}: several recordings need their rig first (rig.yaml left.mp4 "
            "right.mp4), or one take.yaml that names them"
        )
    if is_take_file(load_yaml(paths[0], "rig file")):
        raise InputError(
            f"{paths[0]}: this is a take file, which names its recordings; several takes of one "
            "person go with --same-person, others with `densefit batch`"
        )
    rig = read_rig(paths[0])
    files: dict[str, Path] = {}
    for path in paths[1:]:
        name = path.stem
        if name in files:
            raise InputError(f"{path}: a second recording for camera '{name}'; rename or drop one")
        if name not in rig.cameras:
            raise InputError(
                f"{path}: {unknown_camera(name, rig)}; file names must be those of the cameras in "
                f"{paths[0]}"
            )
        files[name] = path
    sources = _open_all(files, options)
    return _make_take(take_name(paths[1].parent), sources, rig, {}, paths[0], options)


def _load_take_file(path: Path, options: _Options) -> Take:
    data = load_yaml(path, "take file")
    if "units" in data or "version" in data:
        raise InputError(
            f"{path}: this is a rig file; give its recordings after it, or a take.yaml"
        )
    check_keys(data, TAKE_KEYS, str(path))
    files = _camera_files(path, data.get("cameras"))
    rig_path = data.get("rig")
    if rig_path is not None and not isinstance(rig_path, str):
        raise InputError(f"{path}: rig is {rig_path!r}; give the path of a rig.yaml")
    skipped = rig_path is None or not options.with_rig
    rig = None if skipped else read_rig(path.parent / str(rig_path))
    if rig is None and options.with_rig and len(files) > 1:
        raise InputError(
            f"{path}: several cameras need 'rig: rig.yaml'; cameras that are not calibrated may "
            "leave out K and T_camera_world there"
        )
    for name in files:
        if rig is not None and name not in rig.cameras:
            raise InputError(f"{path}: {unknown_camera(name, rig)} ({path.parent / str(rig_path)})")
    for key in ("offsets", "clock_rates"):
        _check_names(path, key, data.get(key), files)
    return _make_take(take_name(path), _open_all(files, options), rig, data, path, options)


def _make_take(
    name: str,
    sources: dict[str, Source],
    rig: Rig | None,
    data: dict[str, Any],
    path: Path,
    options: _Options,
) -> Take:
    """Put the parts together; `data` holds the take file's keys, `path` is named in messages."""
    mode, table = _sync(path, data.get("sync"), options.sync, list(sources))
    offsets = _offsets(path, data.get("offsets") or {}, sources)
    if mode in EVENT_SYNC:
        found = told_offsets(mode, sources)
        # From here on it is as if they had been given.
        offsets = {camera: offsets[camera] + found[camera] for camera in sources}
        mode = "pts"
    take = Take(
        name=name,
        sources=sources,
        rig=rig,
        offsets=offsets,
        clock_rates=_clock_rates(path, data.get("clock_rates") or {}, sources),
        sync=mode,
        sync_table=table,
        independent_frames=any(source.kind == "photos" for source in sources.values()),
    )
    if mode == "timecode":
        for source in sources.values():
            if source.timecode is None:
                raise InputError(f"{source.path}: has no timecode; use another sync in {path}")
    for camera in sources:
        # Says now, before hours of work, that a picture does not suit its calibration.
        try:
            take.camera(camera)
        except CalibrationError as error:
            raise InputError(f"{sources[camera].path}: {error}") from error
    return take


def _open_all(files: dict[str, Path], options: _Options) -> dict[str, Source]:
    return {
        name: open_source(name, path, fps=options.fps, strict=options.strict)
        for name, path in files.items()
    }


def _camera_files(path: Path, cameras: Any) -> dict[str, Path]:
    if not isinstance(cameras, dict) or not cameras:
        raise InputError(
            f"{path}: cameras is empty or not a mapping; write 'name: video.mp4' lines"
        )
    files = {}
    for name, file in cameras.items():
        if not NAME_PATTERN.fullmatch(name):
            raise InputError(f"{path}: bad camera name '{name}'; use letters, digits, _ and - only")
        if not isinstance(file, str) or not file:
            raise InputError(f"{path}: camera '{name}' is {file!r}; give the path of its recording")
        files[name] = path.parent / file
    return files


def _check_names(path: Path, key: str, values: Any, files: dict[str, Path]) -> None:
    if values is None:
        return
    if not isinstance(values, dict):
        raise InputError(f"{path}: {key} is {values!r}; write it as {{camera: value}}")
    check_keys(values, files, f"{path}: {key}")


def _sync(
    path: Path, stated: Any, override: str | None, cameras: list[str]
) -> tuple[str, SyncTable | None]:
    """The mode, and the table where it is csv. A path in the take file is relative to it."""
    value = override if override is not None else stated if stated is not None else "auto"
    if isinstance(value, str) and value in SYNC_MODES:
        return value, None
    if isinstance(value, str) and value.lower().endswith(".csv"):
        file = Path(value) if override is not None else path.parent / value
        return "csv", read_sync_table(file, cameras)
    remedy = f"use {', '.join(SYNC_MODES)} or the path of a .csv file"
    if override is not None:
        raise UsageError(f"--sync {override}: {remedy}")
    raise InputError(f"{path}: sync is {value!r}; {remedy}")


def told_offsets(mode: str, sources: dict[str, Source]) -> dict[str, float]:
    """`event_offsets`, and a line that says what was found."""
    found = event_offsets(mode, sources)
    info(f"{mode}: offsets " + ", ".join(f"{n} {x:+.3f} s" for n, x in found.items()))
    return found


def _offsets(path: Path, values: dict[str, Any], sources: dict[str, Source]) -> dict[str, float]:
    offsets = dict.fromkeys(sources, 0.0)
    for name, value in values.items():
        frames = (
            re.fullmatch(r"([-+]?\d+(?:\.\d+)?)\s*f", value) if isinstance(value, str) else None
        )
        if frames:
            value = float(frames[1]) / sources[name].fps
        if not _is_number(value) or abs(value) > _MAX_OFFSET:
            raise InputError(
                f"{path}: offset of camera '{name}' is {value!r}; give seconds (0.033) or "
                "frames ('2f')"
            )
        offsets[name] = float(value)
    return offsets


def _clock_rates(
    path: Path, values: dict[str, Any], sources: dict[str, Source]
) -> dict[str, float]:
    rates = dict.fromkeys(sources, 1.0)
    for name, value in values.items():
        if not _is_number(value) or abs(value - 1) > _MAX_CLOCK_ERROR:
            raise InputError(
                f"{path}: clock rate of camera '{name}' is {value!r}; give a number near 1, "
                "like 1.00001"
            )
        rates[name] = float(value)
    return rates


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # NaN and infinity are not, nor huge whole numbers


def _is_yaml(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")


def _camera_name(path: Path) -> str:
    """A camera's name from its recording's: what names may not hold becomes _."""
    stem = path.resolve().name if path.is_dir() else path.stem
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_") or "camera"


def take_name(path: Path) -> str:
    """What a take is called: after its folder, its take file (take.yaml: that one's folder), or its
    only recording."""
    if path.is_dir():
        return path.resolve().name
    if not _is_yaml(path):
        return _camera_name(path)
    return path.parent.resolve().name if path.stem in ("take", "rig") else path.stem
