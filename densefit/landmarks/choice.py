"""Which of several faces in a picture is meant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densefit.landmarks.look import Sighting

SAME_PLACE = 0.5
"""A face found anew within so much of the lost one's crop (over its side) is the same."""
ALIKE = 1.6
"""Ratio of sizes up to which a face may be one that was seen a few frames ago."""


@dataclass(frozen=True)
class FaceChoice:
    """Which of several faces in a picture: `largest`, `left`, `right`, or `track` the number-th.

    Left and right are the viewer's. For `track`, faces are numbered by size from 1, the largest.
    """

    rule: str = "largest"
    number: int = 1

    @staticmethod
    def parse(text: str) -> FaceChoice:
        """From the command line: "largest", "left", "right", "track N". Raises ValueError."""
        words = text.split()
        if words in (["largest"], ["left"], ["right"]):
            return FaceChoice(words[0])
        if len(words) == 2 and words[0] == "track" and words[1].isdigit() and int(words[1]) > 0:
            return FaceChoice("track", int(words[1]))
        raise ValueError(f"{text!r}: say largest, left, right or 'track N' with N from 1")

    def of(self, faces: list[Sighting], near: np.ndarray | None = None) -> Sighting | None:
        """The chosen face; near: (>= 3,) where the wanted face was (x, y, side), if known."""
        if near is not None:
            there = [face for face in faces if distance_to(face, near) < SAME_PLACE * near[2]]
            if there:
                return min(there, key=lambda face: distance_to(face, near))
        if self.rule == "left":
            return min(faces, key=lambda face: face.roi[0], default=None)
        if self.rule == "right":
            return max(faces, key=lambda face: face.roi[0], default=None)
        if self.rule == "track" and near is not None:
            # Numbers are for the first choice; later the most alike in size is meant.
            return min(faces, key=lambda face: abs(np.log(face.roi[2] / near[2])), default=None)
        by_size = sorted(faces, key=lambda face: -face.roi[2])
        return by_size[self.number - 1] if len(by_size) >= self.number else None


def distance_to(face: Sighting, roi: np.ndarray) -> float:
    """Distance of a face's crop from another place, px."""
    return float(np.hypot(*(face.roi[:2] - roi[:2])))


def same_size(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two crops (>= 3,) may be of one face, a few frames apart."""
    return bool(max(one[2], other[2]) < ALIKE * min(one[2], other[2]))
