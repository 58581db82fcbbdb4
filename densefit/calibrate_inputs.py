"""What `densefit calibrate` is given: which recording is which camera, and which frames belong
together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from calibration.take_file import VIDEO_SUFFIXES
from calibration.views import CameraPictures
from densefit.capture import Source, Take, load_take, master_timeline, open_source
from densefit.capture.photos import is_photo, pictures_in, read_photo
from densefit.capture.sync_table import read_sync_table
from densefit.capture.take import EVENT_SYNC, SYNC_MODES, told_offsets
from densefit.errors import InputError, UsageError
from densefit.input_files import files_of
from densefit.progress import info, warn

# Names such as left_0012 and left0012, and 0012_left.
_NAME_NUMBER = re.compile(r"(.*?)[-_. ]*(\d+)")
_NUMBER_NAME = re.compile(r"(\d+)[-_. ]+(.*\D.*)")
# With fewer pictures of a number that another camera has too, numbers may not belong together.
_FEW_SHARED = 4


@dataclass(frozen=True, eq=False)
class BoardRecordings:
    """Cameras, and for every moment the picture that each of them took."""

    cameras: list[CameraPictures]
    n_moments: int
    seconds_per_moment: float | None = None
    """Of videos; None for pictures, whose moments are no times."""
    frames: dict[str, dict[int, int]] = field(default_factory=dict)
    """Videos: by camera, moment -> number of the frame."""
    videos: dict[str, Source] = field(default_factory=dict)
    files: dict[str, dict[int, Path]] = field(default_factory=dict)
    """Pictures: by camera, moment -> file."""
    read: tuple[Path, ...] = ()
    """Every file that the recordings are read from."""

    def pictures(self, camera: str, moments: set[int]) -> Iterator[tuple[int, str, np.ndarray]]:
        """Decode a camera's pictures of the given moments: (moment, its name, (H, W) uint8)."""
        if camera in self.videos:
            yield from self._video_pictures(camera, moments)
            return
        size = next(c for c in self.cameras if c.name == camera)
        for moment in sorted(moments & self.files[camera].keys()):
            path = self.files[camera][moment]
            gray = _gray(read_photo(path))
            if gray.shape != (size.height, size.width):
                raise InputError(
                    f"{path}: {gray.shape[1]}x{gray.shape[0]}, but the first picture of camera "
                    f"'{camera}' is {size.width}x{size.height}; a lens is calibrated from pictures "
                    "of one size, that of the later takes: take this one out, or film again"
                )
            yield moment, path.name, gray

    def _video_pictures(
        self, camera: str, moments: set[int]
    ) -> Iterator[tuple[int, str, np.ndarray]]:
        from densefit.capture.video import decode_video

        source = self.videos[camera]
        moment_of = {f: m for m, f in self.frames[camera].items() if m in moments}
        last = max(moment_of, default=-1)

        def wanted(index: int, time: float) -> bool | None:
            return None if index > last else index in moment_of

        for frame in decode_video(source, wanted):
            yield moment_of[frame.index], f"frame {frame.index}", _gray(frame.image)


def _gray(image: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def open_recordings(
    inputs: Sequence[str | Path], sync: str | None = None, strict: bool = False
) -> BoardRecordings:
    """Find the cameras in what was given.

    Args:
        inputs: videos; folders of videos, of one camera's pictures, or of all cameras' pictures
            named such as left_0001.png; pictures of that kind; or one take.yaml.
        sync: as in take.yaml; default auto, or the timestamps.csv beside the videos.
    Raises:
        InputError: nothing that can be used, names that clash, pictures that cannot be matched.
    """
    paths = [Path(item) for item in inputs]
    if len(paths) == 1 and (
        paths[0].suffix in (".yaml", ".yml") or (paths[0] / "take.yaml").is_file()
    ):
        file = paths[0] / "take.yaml" if paths[0].is_dir() else paths[0]
        # Its rig is what is going to be made.
        take = load_take([file], sync=sync, sequence=True, strict=strict, with_rig=False)
        recordings = _from_take(take)
        return replace(recordings, read=(file, *recordings.read))
    videos, pictures = _sort_out(paths)
    if videos and pictures:
        raise InputError(
            f"{next(iter(videos.values()))} is a video and {next(iter(pictures.values()))[0]} a "
            "picture; give videos of all cameras, or pictures of all"
        )
    if pictures:
        if sync is not None:
            raise UsageError(
                f"--sync {sync}: pictures belong together by their numbers; leave it out"
            )
        return _from_pictures(pictures)
    if not videos:
        raise InputError(f"{paths[0]}: no video and no picture there; give the board's recordings")
    sources = {name: open_source(name, path, strict=strict) for name, path in videos.items()}
    return _from_take(_take_of(sources, sync))


def _sort_out(paths: list[Path]) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Videos and pictures by camera."""
    videos: dict[str, Path] = {}
    pictures: dict[str, list[Path]] = {}
    loose: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the name")
        if path.is_dir():
            _sort_out_folder(path, videos, pictures)
        elif is_photo(path):
            loose.append(path)
        else:
            _add(videos, _clean(path.stem), path)
    if loose:
        for name, files in _by_camera(loose, "camera").items():
            _add(pictures, name, files)
    return videos, pictures


def _sort_out_folder(
    folder: Path, videos: dict[str, Path], pictures: dict[str, list[Path]], depth: int = 0
) -> None:
    files = sorted(folder.iterdir())
    clips = [f for f in files if f.suffix.lower() in VIDEO_SUFFIXES and f.name[0] != "."]
    photos = list(pictures_in(folder))
    for clip in clips:
        _add(videos, _clean(clip.stem), clip)
    if photos and not clips:
        for name, own in _by_camera(photos, _clean(folder.resolve().name)).items():
            _add(pictures, name, own)
    if not clips and not photos and depth == 0:
        for inner in files:
            if inner.is_dir():
                _sort_out_folder(inner, videos, pictures, depth + 1)


def _add(found: dict, name: str, value: object) -> None:
    if name in found:
        raise InputError(f"two recordings are called '{name}'; rename one, names are the cameras")
    found[name] = value


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "camera"


def _by_camera(files: Iterable[Path], folder_name: str) -> dict[str, list[Path]]:
    """Split pictures by the camera in their names; one camera where names show none."""
    files = list(files)
    groups: dict[str, dict[int, Path]] = {}
    twice: tuple[Path, Path] | None = None
    for file in files:
        parts = _name_and_number(file.stem)
        if parts is None:
            return {folder_name: files}
        group = groups.setdefault(_clean(parts[0]) if parts[0] else "", {})
        twice = twice or ((group[parts[1]], file) if parts[1] in group else None)
        group[parts[1]] = file
    if len(groups) == 1 or "" in groups:
        return {folder_name: files}
    numbers = [set(group) for group in groups.values()]
    shared = [n for n in set.union(*numbers) if sum(n in group for group in numbers) > 1]
    # Cameras of one rig share picture numbers; photos of several sources in one folder do not.
    if len(shared) < 2:
        return {folder_name: files}
    if twice is not None:
        raise _same_number(*twice)
    info(f"pictures by camera: {', '.join(f'{n} {len(g)}' for n, g in groups.items())}")
    return {name: [group[n] for n in sorted(group)] for name, group in groups.items()}


def _name_and_number(stem: str) -> tuple[str, int] | None:
    match = _NAME_NUMBER.fullmatch(stem)
    if match:
        return match[1], int(match[2])
    match = _NUMBER_NAME.fullmatch(stem)
    return (match[2], int(match[1])) if match else None


def _from_pictures(pictures: dict[str, list[Path]]) -> BoardRecordings:
    """Pictures with the same number belong together; without numbers, those at the same place."""
    files: dict[str, dict[int, Path]] = {}
    for name, own in pictures.items():
        parts = [_name_and_number(path.stem) for path in own]
        numbers = [p[1] for p in parts if p is not None]
        if len(pictures) > 1 and len(numbers) == len(own) > len(set(numbers)):
            number = next(n for n in numbers if numbers.count(n) > 1)
            raise _same_number(*[p for p, n in zip(own, numbers, strict=True) if n == number][:2])
        if len(numbers) == len(own) == len(set(numbers)):
            files[name] = dict(zip(numbers, own, strict=True))
        elif len(pictures) == 1 or len({len(f) for f in pictures.values()}) == 1:
            files[name] = dict(enumerate(own))
        else:
            raise InputError(
                f"{own[0].parent}: cannot tell which pictures were taken together: they carry no "
                "numbers and their counts differ; name them left_0001.png, right_0001.png and so on"
            )
    _check_shared(files)
    cameras = []
    for name, by_moment in files.items():
        height, width = read_photo(next(iter(by_moment.values()))).shape[:2]
        cameras.append(CameraPictures(name, width, height))
    # Moments are counted without gaps: neighbours in time stay neighbours.
    every = sorted(set().union(*files.values()))
    place = {moment: i for i, moment in enumerate(every)}
    files = {name: {place[m]: p for m, p in own.items()} for name, own in files.items()}
    read = tuple(path for own in files.values() for path in own.values())
    return BoardRecordings(cameras, len(every), files=files, read=read)


def _same_number(first: Path, second: Path) -> InputError:
    return InputError(
        f"{first} and {second.name} have the same number, by which pictures are joined with those "
        "of other cameras; take one of them out, or number it anew"
    )


def _check_shared(files: dict[str, dict[int, Path]]) -> None:
    """InputError for a camera none of whose numbers another camera has; a warning for few."""
    for name, own in files.items() if len(files) > 1 else ():
        others = set().union(*(other for n, other in files.items() if n != name))
        shared = len(others & own.keys())
        numbered = f"camera '{name}' ({min(own)} to {max(own)})"
        remedy = "number pictures that were taken together alike, as left_0001, right_0001"
        if shared == 0:
            raise InputError(
                f"{next(iter(own.values())).parent}: pictures of one number belong together, but "
                f"{numbered} shares none with the others ({min(others)} to {max(others)}); {remedy}"
            )
        if shared < _FEW_SHARED <= len(own):
            warn(
                f"pictures of one number belong together, and {numbered} shares only {shared} of "
                f"{len(own)} with the others; if they were taken at the same times, {remedy}"
            )


def _take_of(sources: dict[str, Source], sync: str | None) -> Take:
    """The videos as a take, their clocks related as asked, or by a table that lies beside them."""
    folder = next(iter(sources.values())).path.parent
    if sync is None and len(sources) > 1 and (folder / "timestamps.csv").is_file():
        sync = str(folder / "timestamps.csv")
        info(f"synchronized by {sync}")
    sync = sync or "auto"
    table = None
    if sync.lower().endswith(".csv"):
        table, sync = read_sync_table(Path(sync), list(sources)), "csv"
    elif sync not in SYNC_MODES:
        raise UsageError(f"--sync {sync}: use {', '.join(SYNC_MODES)} or the path of a .csv file")
    if sync == "timecode":
        for source in sources.values():
            if source.timecode is None:
                raise InputError(f"{source.path}: has no timecode; use another --sync")
    offsets, one = dict.fromkeys(sources, 0.0), dict.fromkeys(sources, 1.0)
    if sync in EVENT_SYNC:
        offsets, sync = told_offsets(sync, sources), "pts"
    return Take("calibration", sources, None, offsets, one, sync, table)


def _from_take(take: Take) -> BoardRecordings:
    from densefit.capture.video import frame_times

    stills = [s for s in take.sources.values() if s.kind != "video"]
    if stills and len(stills) < len(take.sources):
        raise InputError(f"{stills[0].path}: pictures and videos mixed; give one kind")
    if stills:
        return _from_pictures({name: list(s.files) for name, s in take.sources.items()})
    times = {name: frame_times(source.path) for name, source in take.sources.items()}
    for name, own in times.items():
        if len(own) == 0:
            raise InputError(f"{take.sources[name].path}: its frames carry no times; convert it")
    line = master_timeline(take, times)
    frames = {
        name: {m: int(f) for m, f in enumerate(line.index[:, c]) if f >= 0}
        for c, name in enumerate(line.cameras)
    }
    cameras = [CameraPictures(n, s.width, s.height) for n, s in take.sources.items()]
    steps = np.diff(line.time)
    period = float(np.median(steps)) if len(steps) else None
    return BoardRecordings(
        cameras, len(line.time), period, frames, dict(take.sources), read=tuple(files_of(take))
    )
