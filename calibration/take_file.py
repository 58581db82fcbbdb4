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

    A video belongs to the camera whose name is its stem; of those left, to the camera whose name is
    a part of its stem between - _ . and spaces; then to the one camera whose number its stem ends
    in, unless it begins like another camera. Paths are written relative to take.yaml.

    Args:
        path: take.yaml to write.
        rig_path: the rig.yaml it refers to.
        cameras: the rig's camera names.
        folder: holds the videos.
        timestamps: table of frame times (cam_id, frame_time, ...), if there is one.
    Raises:
        CalibrationError: no folder, no video for any camera, two for one, or one for two.
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
    names, found = list(cameras), dict[str, Path]()
    for belongs in (_is_called, _names_it, _has_its_number):
        rest = [name for name in names if name not in found]
        unused = [file for file in files if file not in found.values()]
        matching = {n: [f for f in unused if belongs(f.stem, n, names)] for n in rest}
        found |= _one_each(matching, folder)
    if not found:
        raise CalibrationError(
            f"{folder}: no video belongs to the cameras {', '.join(names)}; name the files after "
            "them"
        )
    videos = {name: found[name] for name in names if name in found}
    return TakeFiles(videos, tuple(name for name in names if name not in found))


def _one_each(matching: dict[str, list[Path]], folder: Path) -> dict[str, Path]:
    """The file of every camera that has one; CalibrationError for two of one, or one of two."""
    owner: dict[Path, str] = {}
    for name, files in matching.items():
        if len(files) > 1:
            both = " and ".join(file.name for file in files[:2])
            raise CalibrationError(
                f"{folder}: {both} could both be camera '{name}'; keep one, named {name}"
            )
        for file in files:
            if file in owner:
                raise CalibrationError(
                    f"{folder}: {file.name} could be camera '{owner[file]}' and camera '{name}'; "
                    "name it after its own"
                )
            owner[file] = name
    return {name: file for file, name in owner.items()}


def _is_called(stem: str, name: str, names: list[str]) -> bool:
    return stem == name


def _names_it(stem: str, name: str, names: list[str]) -> bool:
    return name in re.split(r"[-_. ]+", stem)


def _has_its_number(stem: str, name: str, names: list[str]) -> bool:
    """Whether a number at the end is the camera's, and no other camera has or begins like that."""
    begins, number = _split_number(stem)
    if number is None or [n for n in names if _split_number(n)[1] == number] != [name]:
        return False
    others = {_split_number(n)[0] for n in names} - {_split_number(name)[0]}
    return begins not in others and not any(_names_it(stem, n, names) for n in names)


def _split_number(text: str) -> tuple[str, int | None]:
    """What comes before the number at the end, and the number."""
    match = re.search(r"\d+$", text)
    return (text[: match.start()], int(match[0])) if match else (text, None)


def _relative(target: str | Path, file: Path) -> str:
    """`target` as seen from the folder of `file`; absolute when they share only the root."""
    goal, home = Path(target).resolve(), file.resolve().parent
    if os.path.commonpath([goal, home]) == os.path.sep:
        return goal.as_posix()
    return Path(os.path.relpath(goal, home)).as_posix()
