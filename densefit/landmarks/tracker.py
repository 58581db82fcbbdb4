"""Landmarks of pictures: faces found from scratch, and the looks that following one is made of.

All work on batches of pictures; nothing here knows of files or cameras.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from densefit.landmarks.choice import FaceChoice, same_size
from densefit.landmarks.crop import FaceLayout, held
from densefit.landmarks.detector import FaceBox, FaceFinder, load_detector
from densefit.landmarks.follow import COVERS, Trail, follow
from densefit.landmarks.look import Look, Looker, Place, Sighting, combined, doubts, merged
from densefit.landmarks.network import load_network
from densefit.landmarks.weights import CLOSEUP_WEIGHTS, LANDMARK_WEIGHTS
from densefit.precision import inference_dtype

if TYPE_CHECKING:
    from densefit.head import HeadModel


CROP_OVER_BOX = 1.5
"""About the side of a face's crop over that of the detector's box."""


@dataclass(frozen=True)
class TrackOptions:
    """Which face is followed, and when it counts as found, lost, or badly cropped."""

    face: FaceChoice = FaceChoice()
    """which of several faces"""
    first_ratios: tuple[float, ...] = (1.25, 1.75)
    """sides of the first crops over the detector's box; the surer result is kept"""
    closer_looks: int = 3
    """crops cut after the first, each from the landmarks of the one before"""
    presence: float = 0.5
    """least probability of a face in the crop"""
    found_sigma: float = 0.034
    """largest sigma of the surer landmarks (see `doubts`) of a new face, over its box's side"""
    studied_sigma: tuple[float, float] = (0.0175, 0.012)
    """(a, b): after it has been studied through several crops, at most a + b * detector's score"""
    lost_sigma: float = 0.036
    """the same for one that is being followed"""
    shift: float = 0.06
    """a crop whose centre is off by more (over its side) is cut again"""
    stretch: float = 0.10
    """the same for the logarithm of its side, and for its roll in radians"""
    study_scales: tuple[float, ...] = (0.93, 1.0, 1.08)
    """sides of the crops that a newly found face is studied through, over the usual side"""
    batch: int = 16
    """crops per call of the network at most (a CPU is given fewer)"""


@dataclass(frozen=True)
class _Proposal:
    """Where a face may be: number of the picture, region (4,), the detector's score."""

    picture: int
    roi: np.ndarray
    score: float


class FaceTracker:
    """The networks, ready to run on one device."""

    def __init__(
        self,
        face: Looker,
        finder: FaceFinder,
        closeup: Looker | None = None,
        options: TrackOptions = TrackOptions(),
    ) -> None:
        """face: looks at whole faces; closeup: looks again from the brows to the lower lip."""
        self.face, self.finder, self.closeup, self.options = face, finder, closeup, options
        self.layout = face.layout

    def find(self, pictures: list[np.ndarray]) -> list[Sighting | None]:
        """The chosen face of each picture (H, W, 3) uint8 RGB, None where there is none."""
        chosen = [self.options.face.of(found) for found in self._searched(pictures)]
        return self.sharpened(pictures, chosen, studied=True)

    def follow(
        self, films: Mapping[str, list[np.ndarray]], trails: Mapping[str, Trail]
    ) -> tuple[dict[str, list[Sighting | None]], dict[str, Trail]]:
        """The next frames of some films (see `densefit.landmarks.follow`)."""
        return follow(self, films, trails)

    def close(self) -> None:
        """End the networks' threads; they begin anew when they are needed."""
        for looker in (self.face, self.closeup):
            if looker is not None:
                looker.close()

    def find_all(self, picture: np.ndarray) -> list[Sighting]:
        """All faces of a picture (H, W, 3) uint8 RGB, in no particular order."""
        faces = self._searched([picture])[0]
        sharp = self.sharpened([picture] * len(faces), list(faces), studied=True)
        return [face for face in sharp if face is not None]

    def _searched(self, pictures: list[np.ndarray]) -> list[list[Sighting]]:
        """Faces of each picture; where there is none, of what the detector hardly believes in.

        For single pictures only: a film without a face would take four times as long, and most
        profiles behind hair and sunglasses turn to the camera some time.
        """
        faces = self.faces_in(pictures)
        empty = [i for i, found in enumerate(faces) if not found]
        again = self.faces_in([pictures[i] for i in empty], hidden=True)
        for i, found in zip(empty, again, strict=True):
            faces[i] = found
        return faces

    def faces_in(
        self,
        pictures: list[np.ndarray],
        hidden: bool = False,
        apart_from: np.ndarray | None = None,
        refused: Callable[[Sighting], bool] | None = None,
    ) -> list[list[Sighting]]:
        """All faces of each picture, studied.

        hidden: look at what the detector hardly believes in, too; apart_from: (N, >= 3) crops of
        faces that are known, where none is looked for; refused: of a face that is sure enough, says
        whether it is not wanted.
        """

        def boxes(picture: np.ndarray) -> list[FaceBox]:
            return self.finder(picture, hidden)

        several = len(pictures) > 1  # one alone has all threads
        found = self.face.side_by_side(boxes, pictures) if several else map(boxes, pictures)
        proposals = [
            _Proposal(i, _box_roi(box, ratio), box.score)
            for i, proposed in enumerate(found)
            for box in proposed
            if apart_from is None or not _in_one_of(box, apart_from)
            for ratio in self.options.first_ratios
        ]
        # A loose look at every proposal, then closer ones at those that may hold a face.
        looks = self._look_at(pictures, proposals)
        for _ in range(self.options.closer_looks):
            proposals = [
                replace(proposal, roi=look.own)
                for proposal, look in zip(proposals, looks, strict=True)
                if look.roi[4] > 0.5 * self.options.presence
            ]
            looks = self._look_at(pictures, proposals)
        faces: list[list[tuple[Look, float]]] = [[] for _ in pictures]
        for proposal, look in zip(proposals, looks, strict=True):
            if self._is_face(look, self.options.found_sigma) and not (refused and refused(look)):
                faces[proposal.picture].append((look, proposal.score))
        return [
            self._confirmed(picture, seen) for picture, seen in zip(pictures, faces, strict=True)
        ]

    def _confirmed(self, picture: np.ndarray, faces: list[tuple[Look, float]]) -> list[Sighting]:
        """Study each face; keep those that are sure enough for what the detector thought of them.

        Of faces that cover one another only the one whose landmarks are surest is studied.
        """
        kept: list[Sighting] = []
        studied: list[Sighting] = []
        for face, score in sorted(faces, key=lambda pair: pair[0].doubt):
            gaps = [np.hypot(*(face.roi[:2] - other.roi[:2])) for other in kept]
            reach = [COVERS * max(face.roi[2], other.roi[2]) for other in kept]
            if any(gap < r for gap, r in zip(gaps, reach, strict=True)):
                continue
            kept.append(face)
            result = self._study(picture, face)
            base, slope = self.options.studied_sigma
            doubt = doubts(result.xy[None], result.sigma[None], self.layout)[0]
            if doubt < base + slope * score:
                studied.append(result)
        return studied

    def _study(self, picture: np.ndarray, face: Look) -> Sighting:
        """Look again through crops a little larger, smaller and mirrored, and combine them.

        Each landmark becomes the mean weighted by 1 / sigma^2. Looks share most of their errors, so
        sigma does not shrink with their number; where they disagree, it grows.
        """
        roi = face.own
        rois = np.stack([roi * [1, 1, scale, 1] for scale in self.options.study_scales])
        pictures = [picture] * len(rois)
        looks = self._look(pictures, rois)
        looks += self.face.look(pictures, rois, self.options.batch, mirrored=True)
        return combined(looks, roi)

    def sharpened(
        self,
        pictures: list[np.ndarray],
        faces: list[Sighting | None],
        last: Sequence[Place | None] | None = None,
        studied: bool = False,
    ) -> list[Sighting | None]:
        """Faces with what the close-up adds.

        last: where each was; studied: larger, smaller and mirrored too, for faces newly found.
        """
        seen = [i for i, face in enumerate(faces) if face is not None]
        if self.closeup is None or not seen:
            return faces
        shown = [pictures[i] for i in seen]
        xy = np.stack([faces[i].xy for i in seen])  # type: ignore[union-attr]
        rois = self.closeup.around(xy)
        if last is not None:
            places = [last[i] for i in seen]
            rois = held(rois, [None if place is None else place.closeup for place in places])
        views = [
            self.closeup.look(shown, rois * [1, 1, scale, 1], self.options.batch, mirrored)
            for scale in (self.options.study_scales if studied else (1.0,))
            for mirrored in ((False, True) if studied else (False,))
        ]
        near_xy, near_sigma = _stacked(views[0])
        if len(views) > 1:
            each = [_stacked(view) for view in views]
            near_xy, near_sigma = merged(*(np.stack(arrays) for arrays in zip(*each, strict=True)))
        found: list[Sighting] = [faces[i] for i in seen]  # type: ignore[misc]
        far_xy, far_sigma = _stacked(found)
        xy, sigma = merged(np.stack([far_xy, near_xy]), np.stack([far_sigma, near_sigma]))
        out = list(faces)
        for k, i in enumerate(seen):
            out[i] = Sighting(xy[k], sigma[k], found[k].roi, closeup=rois[k])
        return out

    def settled(
        self, pictures: list[np.ndarray], faces: list[Sighting | None]
    ) -> list[Sighting | None]:
        """Newly found faces as following sees them: through one crop.

        Landmarks would jump from a first frame that was studied through many to the next.
        """
        seen = [i for i, face in enumerate(faces) if face is not None]
        if not seen:
            return faces
        xy = np.stack([faces[i].xy for i in seen])  # type: ignore[union-attr]
        looks = self._look([pictures[i] for i in seen], self.face.around(xy))
        out = list(faces)
        for i, look in zip(seen, looks, strict=True):
            if self.is_followed(look):
                out[i] = look
        return self.sharpened(pictures, out)

    def _look_at(self, pictures: list[np.ndarray], proposals: list[_Proposal]) -> list[Look]:
        chosen = [pictures[proposal.picture] for proposal in proposals]
        return self._look(chosen, np.array([proposal.roi for proposal in proposals]))

    def looked_again(self, pictures: list[np.ndarray], rois: np.ndarray) -> list[Look]:
        """A look at each picture through a crop (N, 4); another where that was badly cut."""
        looks = self._look(pictures, rois)
        again = [i for i, look in enumerate(looks) if self._badly_cropped(look)]
        own = np.array([looks[i].own for i in again])
        for i, look in zip(again, self._look([pictures[i] for i in again], own), strict=True):
            looks[i] = look
        return looks

    def is_followed(self, look: Look) -> bool:
        """Sure enough to be the face that is being followed."""
        return self._is_face(look, self.options.lost_sigma)

    def _badly_cropped(self, look: Look) -> bool:
        if look.roi[4] < 0.5 * self.options.presence:
            return False
        shift, stretch, turn = look.off
        limit = self.options
        return bool(shift > limit.shift or max(stretch, turn) > limit.stretch)

    def _is_face(self, look: Look, largest_sigma: float) -> bool:
        """Sure enough that it is a face, sure enough where, and cropped around itself."""
        if look.roi[4] < self.options.presence or look.doubt > largest_sigma:
            return False
        shift, stretch, _ = look.off
        return bool(shift < 0.25 and stretch < 0.5)

    def _look(self, pictures: list[np.ndarray], rois: np.ndarray) -> list[Look]:
        return self.face.look(pictures, rois, self.options.batch)


def _stacked(faces: Sequence[Sighting]) -> tuple[np.ndarray, np.ndarray]:
    """xy (N, 703, 2) px and sigma (N, 703) px of several faces."""
    return np.stack([face.xy for face in faces]), np.stack([face.sigma for face in faces])


def _in_one_of(box: FaceBox, crops: np.ndarray) -> bool:
    """Whether a box is that of a face in one of the crops (N, >= 3)."""
    roi = _box_roi(box, CROP_OVER_BOX)
    return any(
        np.hypot(*(crop[:2] - roi[:2])) < COVERS * crop[2] and same_size(crop, roi)
        for crop in crops
    )


def _box_roi(box: FaceBox, ratio: float) -> np.ndarray:
    return np.array([box.x, box.y, box.side * ratio, 0.0])


def load_tracker(
    head: HeadModel,
    device: torch.device | str = "cpu",
    weights: Path = LANDMARK_WEIGHTS,
    closeup_weights: Path | None = CLOSEUP_WEIGHTS,
    options: TrackOptions = TrackOptions(),
    precision: str = "auto",
) -> FaceTracker:
    """The networks for a head model, by default those that ship.

    weights: of the network for whole faces; closeup_weights: of the close-up, None to do without;
    precision: "float32", "bfloat16", "int8", or "auto" for the fastest.
    Raises InputError when weights are missing, damaged, trained for other landmarks, or not fit for
    int8 where that is wanted.
    """
    version = head.landmarks_version
    networks = [load_network(weights, version)]
    if closeup_weights is not None:
        networks.append(load_network(closeup_weights, version, "closeup"))
    ranges = all(bool(network.activation_ranges.any(1).all()) for network in networks)
    dtype = inference_dtype(precision, torch.device(device), ranges)
    layouts = (FaceLayout.of(head), FaceLayout.closeup(head))
    face, *near = (
        Looker(network, layout, device, dtype)
        for network, layout in zip(networks, layouts, strict=False)
    )
    closeup = near[0] if near else None
    return FaceTracker(face, FaceFinder(load_detector(), device), closeup, options)
