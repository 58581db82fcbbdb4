"""The mosaic: all cameras side by side on the master timeline, with landmarks and mesh.

It is put together from the cameras' own overlays, so that the mesh is painted only once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densefit.files import atomic_path
from densefit.landmarks.overlay import draw_landmarks
from densefit.landmarks.slices import frame_of
from densefit.progress import progress

if TYPE_CHECKING:
    from densefit.landmarks.files import LandmarkTrack

MAX_WIDTH = 1920
MAX_TILE = 960
BACKGROUND = (24, 26, 30)


@dataclass(frozen=True)
class MosaicCamera:
    """One camera's part of the mosaic."""

    name: str
    overlay: Path
    """Video, or folder of pictures; the recording itself where no head was found in it."""
    track: LandmarkTrack
    index: np.ndarray
    """(T,) int64: picture of the camera at each master frame, -1 where there is none."""


def write_mosaic(cameras: Sequence[MosaicCamera], fps: float, path: Path) -> Path:
    """Write the mosaic of T master frames.

    Args:
        cameras: in the order to show them.
        fps: frames per second.
        path: .mp4 (H.264, yuv420p), or .png for a single frame; written whole or not at all.
    """
    streams = {camera.name: _Pictures(camera.overlay) for camera in cameras}
    shapes = {name: stream.shape for name, stream in streams.items()}
    layout = Layout.of([camera.name for camera in cameras], shapes)
    frames = range(len(cameras[0].index))
    blank = np.full((layout.height, layout.width, 3), BACKGROUND, np.uint8)
    pictures = (_compose(cameras, streams, layout, blank.copy(), t) for t in frames)
    with progress(len(frames), "mosaic") as bar:
        if path.suffix == ".png":
            _write_png(path, next(pictures))
            bar.advance(1)
            return path
        from densefit.capture import VideoWriter

        with VideoWriter(path, fps, layout.width, layout.height) as video:
            for picture in pictures:
                video.write(picture)
                bar.advance(1)
    return path


@dataclass(frozen=True)
class Layout:
    """Where each camera's tile lies; px."""

    width: int
    height: int
    tiles: dict[str, tuple[int, int, int, int]]
    """By camera: x, y, width, height."""

    @staticmethod
    def of(names: Sequence[str], shapes: Mapping[str, tuple[int, int]]) -> Layout:
        """A grid about as wide as high, at most MAX_WIDTH wide, even in size.

        Args:
            shapes: (height, width) of each camera's pictures.
        """
        columns = int(np.ceil(np.sqrt(len(names))))
        rows = -(-len(names) // columns)
        widest = max(width for _, width in shapes.values())
        cell = min(MAX_TILE, MAX_WIDTH // columns, widest)
        # Every picture fits into its cell; the cells are as high as the highest needs.
        scales = {name: cell / width for name, (_, width) in shapes.items()}
        high = max(round(height * scales[name]) for name, (height, _) in shapes.items())
        high = min(high, round(cell * 1.5))
        tiles = {}
        for number, name in enumerate(names):
            height, width = shapes[name]
            scale = min(scales[name], high / height)
            w, h = max(1, round(width * scale)), max(1, round(height * scale))
            x = (number % columns) * cell + (cell - w) // 2
            y = (number // columns) * high + (high - h) // 2
            tiles[name] = (x, y, w, h)
        return Layout(2 * -(-columns * cell // 2), 2 * -(-rows * high // 2), tiles)


class _Pictures:
    """The pictures of an overlay, taken in rising order."""

    def __init__(self, path: Path) -> None:
        self._frames = _open(path)
        self._position, self._image = 0, next(self._frames)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the first."""
        return self._image.shape[:2]

    def at(self, position: int) -> np.ndarray:
        """(H, W, 3) uint8; the last one again where the overlay ends early."""
        while self._position < position:
            image = next(self._frames, None)
            if image is None:
                break
            self._position, self._image = self._position + 1, image
        return self._image


def _open(path: Path) -> Iterator[np.ndarray]:
    from densefit.capture import open_frames, open_source

    source = open_source(path.stem, path, separate_photos=path.is_dir())
    return (frame.image for frame in open_frames(source))


def _compose(
    cameras: Sequence[MosaicCamera],
    streams: Mapping[str, _Pictures],
    layout: Layout,
    canvas: np.ndarray,
    frame: int,
) -> np.ndarray:
    """One master frame, drawn on a canvas (height, width, 3) uint8, which is returned."""
    import cv2

    for camera in cameras:
        x, y, w, h = layout.tiles[camera.name]
        position = int(camera.index[frame])
        label = camera.name if position >= 0 else f"{camera.name}: no picture"
        if position >= 0:
            image = streams[camera.name].at(position)
            # Photos of one camera may differ in shape; the tile has that of the first.
            scale = min(w / image.shape[1], h / image.shape[0])
            wide, high = round(image.shape[1] * scale), round(image.shape[0] * scale)
            tile = cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA)
            _draw_landmarks(tile, camera.track, position, scale)
            left, top = x + (w - wide) // 2, y + (h - high) // 2
            canvas[top : top + high, left : left + wide] = tile
        size = max(0.4, w / 1100)
        write_label(canvas, label, (x + 8, y + int(30 * size) + 4), size)
    return canvas


def write_label(canvas: np.ndarray, text: str, place: tuple[int, int], size: float) -> None:
    """White with a black edge, so that it is read on anything; drawn in place.

    The edge is the same text around it: bolder text of OpenCV 5 is wider, too.
    """
    import cv2

    around = [(dx, dy) for dx in (-1, 1) for dy in (-1, 1)]
    for (dx, dy), shade in [*((step, 0) for step in around), ((0, 0), 255)]:
        at = (place[0] + dx, place[1] + dy)
        colour = (shade, shade, shade)
        cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def _draw_landmarks(tile: np.ndarray, track: LandmarkTrack, row: int, scale: float) -> None:
    if row < len(track) and track.valid[row]:
        xy, sigma, side = frame_of(track, row)
        xy = (xy.astype(np.float64) + 0.5) * scale - 0.5
        draw_landmarks(tile, xy, sigma * scale, side * scale)


def _write_png(path: Path, picture: np.ndarray) -> None:
    import cv2

    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), picture[..., ::-1])
