"""take.yaml for the recordings of a rig: which video belongs to which camera."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.atomic import atomic_path
from calibration.errors import CalibrationError
from calibration.safe_yaml import dump_yaml

VIDEO_SUFFIXES = frozenset(".mp4 .mov .mkv .avi .m4v .webm .mts .ts .mpg .mpeg .wmv".split())


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
    path = Path(path)
    found = videos_of(cameras, folder)
    data: dict[str, Any] = {
        "rig": _relative(rig_path, path),
        "cameras": {name: _relative(file, path) for name, file in found.videos.items()},
    }
    if timestamps is not None:
        data["sync"] = _relative(timestamps, path)
    with atomic_path(path) as temporary:
        temporary.write_text(dump_yaml(data), encoding="utf-8")
    return found


def videos_of(cameras: Iterable[str], folder: str | Path) -> TakeFiles:
    """The videos of a folder that belong to cameras, as `write_take` joins them; its errors."""
    folder = Path(folder)
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
