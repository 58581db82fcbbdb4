"""What all cameras saw of the board: views by camera and moment, and their choice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from calibration.bundle import Corners
from calibration.detection import Detection


@dataclass(frozen=True, eq=False)
class View:
    """The board in one picture."""

    camera: str
    moment: int
    """Pictures of one moment were taken together."""
    detection: Detection
    name: str = ""
    """For messages: file or frame."""


@dataclass(frozen=True, eq=False)
class CameraPictures:
    """What is known of a camera before calibration."""

    name: str
    width: int
    """px."""
    height: int
    """px."""


def views_of(views: Iterable[View], camera: str) -> list[View]:
    """The camera's views in order of their moments."""
    return sorted((v for v in views if v.camera == camera), key=lambda v: v.moment)


def by_moment(views: Iterable[View]) -> dict[int, dict[str, View]]:
    """moment -> camera -> view, moments ascending."""
    grouped: dict[int, dict[str, View]] = {}
    for view in sorted(views, key=lambda v: v.moment):
        grouped.setdefault(view.moment, {})[view.camera] = view
    return grouped


def corners_of(
    views: Iterable[View], points: np.ndarray, cameras: list[str]
) -> tuple[Corners, list[int], list[View]]:
    """All corners sorted for the bundle adjustment.

    Args:
        points: (P, 3) float64, metres: the board's points.
    Returns:
        The corners; the moment that each of their moment indices stands for; the views in order.
    """
    index = {name: i for i, name in enumerate(cameras)}
    ordered = sorted(views, key=lambda v: (v.moment, index[v.camera]))
    moments = sorted({v.moment for v in ordered})
    place = {moment: i for i, moment in enumerate(moments)}
    counts = [len(v.detection.ids) for v in ordered]
    ids = np.concatenate([v.detection.ids for v in ordered] or [np.zeros(0, np.int64)])
    corners = Corners(
        camera=np.repeat(np.array([index[v.camera] for v in ordered], np.int64), counts),
        moment=np.repeat(np.array([place[v.moment] for v in ordered], np.int64), counts),
        points=points[ids],
        xy=np.concatenate([v.detection.xy for v in ordered] or [np.zeros((0, 2))]),
        ids=ids,
    )
    return corners, moments, ordered
