"""Pictures with the landmarks drawn on them, coloured by uncertainty: green certain, red not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densefit.input_files import files_of, refuse_replacing
from densefit.landmarks.files import LandmarkTrack, read_landmarks
from densefit.progress import warn

if TYPE_CHECKING:
    from densefit.capture import Take
    from densefit.landmarks.predictor import PredictOptions

# Sigma over the side of the crop at which a landmark is drawn all green and all red.
_CERTAIN, _UNCERTAIN = 0.006, 0.05


def uncertainty_colours(sigma: np.ndarray, side: float) -> np.ndarray:
    """RGB (N, 3) uint8 for sigma (N,) px of landmarks seen in a crop of `side` px."""
    low, high = np.log(_CERTAIN), np.log(_UNCERTAIN)
    doubt = np.clip((np.log(np.maximum(sigma / max(side, 1e-6), 1e-6)) - low) / (high - low), 0, 1)
    red, green = np.minimum(2 * doubt, 1), np.minimum(2 - 2 * doubt, 1)
    return np.stack([red * 255, green * 255, 0 * doubt], -1).astype(np.uint8)


def draw_landmarks(picture: np.ndarray, xy: np.ndarray, sigma: np.ndarray, side: float) -> None:
    """Draw in place on a picture (H, W, 3) uint8 RGB: xy (N, 2) px, sigma (N,) px."""
    import cv2

    radius = max(1.0, side / 260)
    colours = uncertainty_colours(sigma, side).tolist()
    # Three more bits of position, so that the dots move smoothly over a video.
    places = np.round(xy * 8).astype(int).tolist()
    order = np.argsort(-sigma)
    for i in order:
        cv2.circle(picture, places[i], round(radius * 8), colours[i], -1, cv2.LINE_AA, 3)


def check_overlays(take: Take, folder: Path) -> None:
    """InputError when an overlay in `folder` would replace, or lie among, what the take reads."""
    inputs = list(files_of(take))
    folders = {path.parent for source in take.sources.values() for path in source.files}
    refuse_replacing([*inputs, *sorted(folders)], overlay_paths(take, folder).values())


def overlay_paths(take: Take, folder: Path) -> dict[str, Path]:
    """Each camera's video, or folder of pictures."""
    return {
        name: folder / (name if source.kind in ("photo", "photos") else f"{name}.mp4")
        for name, source in take.sources.items()
    }


def write_overlays(
    take: Take, paths: dict[str, Path], folder: Path, options: PredictOptions
) -> list[Path]:
    """overlay/<camera>.mp4 for each camera; for photos a folder of PNG files. Returns the paths.

    `check_overlays` says beforehand whether that would cost a recording.
    """
    from densefit.files import ensure_out_dir

    ensure_out_dir(folder)
    written = []
    targets = overlay_paths(take, folder)
    for name, source in take.sources.items():
        target = targets[name]
        if target.is_file() and target.stat().st_mtime_ns > paths[name].stat().st_mtime_ns:
            written.append(target)  # drawn from these landmarks by an earlier run
            continue
        track = read_landmarks(paths[name])
        if source.kind in ("photo", "photos"):
            written.append(_write_pictures(source, track, target, options))
        else:
            written.append(_write_video(source, track, target, options))
    return written


def warn_of_older_overlays(take: Take, paths: dict[str, Path], folder: Path) -> None:
    """Say which overlays in `folder` were drawn before the landmarks at `paths` were found."""
    old = []
    for name, target in overlay_paths(take, folder).items():
        drawn = [target] if target.is_file() else list(target.glob("*.png"))
        found = paths[name].stat().st_mtime_ns
        if drawn and min(path.stat().st_mtime_ns for path in drawn) < found:
            old.append(str(target))
    if old:
        warn(
            f"{', '.join(old)}: drawn from earlier landmarks; the same `densefit predict` with "
            "--overlay draws these"
        )


def _frames(source, track: LandmarkTrack, options: PredictOptions):  # type: ignore[no-untyped-def]
    """The pictures with their landmarks drawn on."""
    from densefit.capture import open_frames

    frames = open_frames(source, options.start, options.end, options.every)
    for i, frame in enumerate(frames):
        picture = np.ascontiguousarray(frame.image).copy()
        if i < len(track) and track.valid[i]:
            draw_landmarks(picture, track.xy[i], track.sigma[i], float(track.roi[i, 2]))
        yield frame, picture


def _write_video(source, track: LandmarkTrack, path: Path, options: PredictOptions) -> Path:  # type: ignore[no-untyped-def]
    from densefit.capture import VideoWriter
    from densefit.progress import progress

    with progress(len(track), f"overlay {source.name}", "frames") as bar:
        with VideoWriter(path, source.fps / options.every, source.width, source.height) as video:
            for _, picture in _frames(source, track, options):
                video.write(picture)
                bar.advance()
    return path


def _write_pictures(source, track: LandmarkTrack, folder: Path, options: PredictOptions) -> Path:  # type: ignore[no-untyped-def]
    import cv2

    from densefit.files import atomic_path

    folder.mkdir(parents=True, exist_ok=True)
    for frame, picture in _frames(source, track, options):
        name = Path(source.files[frame.index]).stem if source.files else f"{frame.index:06d}"
        with atomic_path(folder / f"{name}.png") as temporary:
            cv2.imwrite(str(temporary), picture[..., ::-1])
    return folder
