"""A stand-in for the networks that 'finds' white squares, and videos with such squares."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from densefit.capture import VideoWriter
from densefit.landmarks.follow import Trail
from densefit.landmarks.look import Sighting


class SquareTracker:
    """Landmarks are the square's centre; counts how often it looked and followed."""

    def __init__(self) -> None:
        self.layout = SimpleNamespace(mirror=np.arange(703))
        self.found = 0
        self.followed = 0
        self.stop_after: int | None = None
        self.closed = False

    def _see(self, picture: np.ndarray) -> Sighting | None:
        y, x = np.nonzero(picture[..., 1] > 180)
        if len(x) < 20:
            return None
        xy = np.tile(np.array([x.mean(), y.mean()], np.float32), (703, 1))
        return Sighting(xy, np.ones(703, np.float32), np.array([*xy[0], 20.0, 0.0, 0.9]))

    def close(self) -> None:
        self.closed = True

    def find(self, pictures: list[np.ndarray]) -> list[Sighting | None]:
        self.found += len(pictures)
        return [self._see(picture) for picture in pictures]

    def follow(
        self, films: dict[str, list[np.ndarray]], trails: dict[str, Trail]
    ) -> tuple[dict[str, list[Sighting | None]], dict[str, Trail]]:
        """Pictures count as searched until there is a place."""
        seen, after = {}, {}
        for name, pictures in films.items():
            seen[name], after[name] = self._walk(pictures, trails[name])
        if self.stop_after is not None and self.followed > self.stop_after:
            raise KeyboardInterrupt
        return seen, after

    def _walk(
        self, pictures: list[np.ndarray], trail: Trail
    ) -> tuple[list[Sighting | None], Trail]:
        seen = []
        for picture in pictures:
            if trail.place is None:
                self.found += 1
            else:
                self.followed += 1
                assert np.isfinite(trail.place.xy).all()
            # The last frame is at hand, also where an interrupted run goes on.
            assert trail.lost or trail.place is None or trail.picture is not None
            sighting = self._see(picture)
            seen.append(sighting)
            if sighting is None:
                trail = Trail(trail.place, trail.lost + 1)
            else:
                trail = Trail(sighting.place, picture=picture)
        return seen, trail


def square_video(path: Path, frames: int, hidden: range = range(0)) -> Path:
    """A square that moves a pixel a frame, except where it is hidden."""
    with VideoWriter(path, 30, 96, 64) as video:
        for i in range(frames):
            picture = np.full((64, 96, 3), 30, np.uint8)
            if i not in hidden:
                picture[20:36, 10 + i % 50 : 26 + i % 50] = 255
            video.write(picture)
    return path
