"""Following one face through films: from frame to frame, through losses, and not to bystanders.

Films go forward a block of frames at a time. All frames of a block are first looked at where the
face was last, in one call for all cameras: nearly always that is all. Where it is lost in a frame,
it is looked for from the frame before, then in the whole picture; what is found there is followed
through the rest of the block. Who stood elsewhere in the picture while the face was seen is
somebody else: while it is lost these others are followed, too, and never taken for it. After a cut
nobody knows who was who, and anybody may be it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from densefit.landmarks.choice import SAME_PLACE, distance_to, same_size
from densefit.landmarks.crop import held
from densefit.landmarks.look import Look, Place, Sighting

if TYPE_CHECKING:
    from densefit.landmarks.tracker import FaceTracker

FORGOTTEN = 512
"""Frames after which a lost face is anybody's."""
COVERS = 0.35
"""Two faces nearer than this share of the larger crop's side are one."""
ASTRAY, GONE = 1 / 16, 25
"""By so much of its side more a bystander who is not seen may have moved, each frame; and after so
many frames he is not counted with any longer."""
STEADY = 0.25
"""Largest change of a bystander's size from one frame to the next, of its logarithm."""
CUT = 0.3
"""Correlation of two frames' thumbnails below which they are of different shots."""
THUMBNAIL = (32, 18)
"""px."""


@dataclass(frozen=True)
class Trail:
    """What is known of a film's face when its next frames come."""

    place: Place | None = None
    """Where it was seen last."""
    lost: int = 0
    """Frames since, or since the beginning."""
    others: np.ndarray | None = None
    """(N, 5) float64: crops of the others in the last frame, and frames since they were seen; None
    while the face itself is seen, or was never."""
    picture: np.ndarray | None = None
    """(H, W, 3) uint8: the last frame, if it shows the face."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All but the picture, for a file."""
        out = {"lost": np.array(self.lost)}
        if self.others is not None:
            out["others"] = self.others
        if self.place is not None:
            crops = {"roi": self.place.roi, "closeup": self.place.closeup}
            out |= {"xy": self.place.xy, **{k: v for k, v in crops.items() if v is not None}}
        return out

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], picture: np.ndarray | None) -> Trail:
        """What `arrays` gave, with the last frame before the next."""
        place = None
        if "xy" in arrays:
            place = Place(arrays["xy"], arrays.get("roi"), arrays.get("closeup"))
        lost = int(arrays["lost"])
        return Trail(place, lost, arrays.get("others"), None if lost else picture)


Pictures = list[np.ndarray]


def follow(
    tracker: FaceTracker, films: Mapping[str, Pictures], trails: Mapping[str, Trail]
) -> tuple[dict[str, list[Sighting | None]], dict[str, Trail]]:
    """The next frames of some films.

    Args:
        films: pictures (H, W, 3) uint8 RGB of each camera, at least one.
        trails: of each camera, as returned with the frames before.
    Returns:
        The face in each picture, None where it is not seen, and the new trails.
    """
    walks = {name: _Walk(tracker, films[name], trails[name]) for name in films}
    _look_together(tracker, list(walks.values()))
    for walk in walks.values():
        walk.run()
    followed = [(walk, i) for walk in walks.values() for i in walk.followed]
    faces: list[Sighting | None] = [walk.seen[i] for walk, i in followed]
    sharp = tracker.sharpened(
        [walk.pictures[i] for walk, i in followed], faces, [walk.bases[i] for walk, i in followed]
    )
    for (walk, i), face in zip(followed, sharp, strict=True):
        walk.seen[i] = face
    return (
        {name: walk.seen for name, walk in walks.items()},
        {name: walk.trail() for name, walk in walks.items()},
    )


def _look_together(tracker: FaceTracker, walks: list[_Walk]) -> None:
    """All frames of all films where the faces were last, in one call."""
    walks = [walk for walk in walks if walk.place is not None]
    places = [walk.place for walk in walks if walk.place is not None]
    if not walks:
        return
    rois = _crops(tracker, places)
    counts = [len(walk.pictures) for walk in walks]
    pictures = [picture for walk in walks for picture in walk.pictures]
    looks = iter(tracker.looked_again(pictures, np.repeat(rois, counts, axis=0)))
    for walk, place in zip(walks, places, strict=True):
        for i in range(len(walk.pictures)):
            walk.looks[i], walk.bases[i] = next(looks), place


def _crops(tracker: FaceTracker, places: list[Place]) -> np.ndarray:
    """(N, 4): the crops to look for faces in that were at these places."""
    wanted = tracker.face.around(np.stack([place.xy for place in places]))
    return held(wanted, [place.roi for place in places])


@dataclass
class _Walk:
    """One film's way through a block."""

    tracker: FaceTracker
    pictures: Pictures
    before: Trail
    looks: list[Look | None] = field(init=False)
    """what each frame shows at its `base`; None: not looked at yet"""
    bases: list[Place | None] = field(init=False)
    seen: list[Sighting | None] = field(init=False)
    followed: list[int] = field(default_factory=list)
    """frames whose sighting is a look that the close-up has not sharpened"""

    def __post_init__(self) -> None:
        count = len(self.pictures)
        self.looks, self.bases, self.seen = [None] * count, [None] * count, [None] * count
        self.place, self.lost = self.before.place, self.before.lost
        self.others = None if self.before.others is None else self.before.others.copy()
        self._stale = False  # the face was seen since the looks ahead were made
        self._searched: dict[int, list[Sighting]] = {}
        # Who was lost all through the block before is hardly found in the next frame.
        self._ahead = count if self.lost >= count else 1

    def run(self) -> None:
        """Fill in `seen`."""
        for i in range(len(self.pictures)):
            if self.lost and self.others is not None:
                self._follow_others(i)
            if not (self._followed(i) or self._followed_closely(i) or self._found(i)):
                self._lose()

    def trail(self) -> Trail:
        """What the next block needs to know; `seen` must be sharpened."""
        last = len(self.pictures) - 1
        if self.lost and self.place is not None and self.others is None:
            # Now, because pictures are not kept.
            self.others = self._others_beside(last + 1)
        if self.lost > FORGOTTEN:
            return Trail(None, self.lost)
        newest = next((i for i in range(last, -1, -1) if self.seen[i] is not None), None)
        place = self.place
        if newest is not None:
            sighting = self.seen[newest]
            assert sighting is not None
            place = sighting.place
        picture = None if self.lost else self.pictures[last]
        return Trail(place, self.lost, self.others, picture)

    def _followed(self, i: int) -> bool:
        """Frame i shows the face where it was."""
        if self.place is None:
            return False
        if self.looks[i] is None:
            self._look_ahead(i)
        look = self.looks[i]
        if look is None or not self.tracker.is_followed(look):
            return False
        if self.lost and self._is_another(look):
            return False
        self._see(i, look)
        self.followed.append(i)
        return True

    def _followed_closely(self, i: int) -> bool:
        """... where it was in the frame before, which its look did not know of yet."""
        if not self._stale:
            return False
        for j in range(i, len(self.pictures)):
            self.looks[j] = None
        return self._followed(i)

    def _look_ahead(self, i: int) -> None:
        """Look at frame i and all after it from where the face was last."""
        assert self.place is not None
        rest = self.pictures[i:]
        rois = np.repeat(_crops(self.tracker, [self.place]), len(rest), axis=0)
        self.looks[i:] = self.tracker.looked_again(rest, rois)
        self.bases[i:] = [self.place] * len(rest)
        self._stale = False

    def _see(self, i: int, sighting: Sighting) -> None:
        self.seen[i] = sighting
        base = self.bases[i]
        closeup = sighting.closeup if base is None or sighting.closeup is not None else base.closeup
        self.place = replace(sighting.place, closeup=closeup)
        self.lost, self.others, self._stale = 0, None, True

    def _lose(self) -> None:
        self.lost += 1
        if self.lost > FORGOTTEN:
            self.place = self.others = None

    def _found(self, i: int) -> bool:
        """Frame i shows the face somewhere else."""
        faces = self._faces(i)
        near = None if self.place is None else self._crop_of(self.place)
        if near is not None and self.others is None and any(not _there(f, near) for f in faces):
            self.others = self._others_beside(i)
            self._follow_others(i)
            faces = [face for face in faces if not self._is_another(face)]
        chosen = self.tracker.options.face.of(faces, near)
        settled = self.tracker.settled([self.pictures[i]], [chosen])[0]
        if settled is None:
            return False
        self._see(i, settled)
        for j in range(i + 1, len(self.pictures)):
            self.looks[j] = None
        return True

    def _crop_of(self, place: Place) -> np.ndarray:
        return _crops(self.tracker, [place])[0]

    def _faces(self, i: int) -> list[Sighting]:
        """All faces of frame i, but none where the others are."""
        if self.others is not None and len(self.others):
            seen = self.others[self.others[:, 4] == 0]
            found = self.tracker.faces_in(
                [self.pictures[i]], apart_from=seen, refused=self._is_another
            )
            return found[0]
        if i not in self._searched:
            open_ = [j for j in range(i, len(self.pictures)) if not self._will_be_followed(j)]
            frames = open_[: self._ahead]
            self._ahead *= 2
            faces = self.tracker.faces_in([self.pictures[j] for j in frames])
            self._searched |= dict(zip(frames, faces, strict=True))
        return self._searched[i]

    def _will_be_followed(self, j: int) -> bool:
        look = self.looks[j]
        return look is not None and self.tracker.is_followed(look)

    def _others_beside(self, i: int) -> np.ndarray:
        """(N, 5): crops of the faces beside the lost one in the last frame that showed it, as far
        as that is at hand; `i`: a frame before which `lost` frames did not show it."""
        assert self.place is not None
        nobody = np.zeros((0, 5))
        picture = self._picture_at(i - 1 - self.lost)
        if picture is None:
            return nobody
        faces = self.tracker.faces_in([picture])[0]
        lost = self._crop_of(self.place)
        alike = [face for face in faces if _there(face, lost) and same_size(face.roi, lost)]
        own = min(alike, key=lambda face: distance_to(face, lost), default=None)
        rois = [face.roi[:4] for face in faces if face is not own]
        if not rois:
            return nobody
        return np.column_stack([np.stack(rois), np.full(len(rois), float(self.lost))])

    def _picture_at(self, i: int) -> np.ndarray | None:
        """Frame i of the block; the last of the block before for -1, if that is at hand."""
        return self.pictures[i] if i >= 0 else self.before.picture if i == -1 else None

    def _follow_others(self, i: int) -> None:
        """Bring the others to frame i. Where that is another shot there are none."""
        assert self.others is not None
        if not len(self.others):
            return
        crops = self.others[:, :4].copy()
        looks = self.tracker.looked_again([self.pictures[i]] * len(crops), crops)
        for row, look in zip(self.others, looks, strict=True):
            row[4] += 1
            stretch = abs(np.log(look.own[2] / row[2]))
            if self.tracker.is_followed(look) and stretch < STEADY * row[4]:
                row[:4], row[4] = look.own, 0
        self.others = self.others[self.others[:, 4] < GONE]
        # Everybody at once: that, too, is a cut.
        if self.lost == 0 and not (self.others[:, 4] == 0).any():
            self.others = self.others[:0]
        before = self._picture_at(i - 1)
        if len(self.others) and before is not None and _is_cut(before, self.pictures[i]):
            self.others = self.others[:0]

    def _is_another(self, face: Sighting) -> bool:
        """It is one of the others: seen where that one is, or might have gone unseen."""
        for row in self.others if self.others is not None else ():
            if not same_size(face.roi, row):
                continue
            gap, side = distance_to(face, row), max(face.roi[2], row[2])
            if row[4] == 0 and gap < COVERS * side:
                return True
            if row[4] and gap < min(1.0, SAME_PLACE + ASTRAY * row[4]) * row[2]:
                row[:4], row[4] = face.roi[:4], 0
                return True
        return False


def _is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two pictures that follow one another have nothing in common but what is chance."""
    import cv2

    small = [
        cv2.resize(p, THUMBNAIL, interpolation=cv2.INTER_AREA).mean(2) for p in (before, after)
    ]
    one, other = (picture - picture.mean() for picture in small)
    scale = np.sqrt((one**2).sum() * (other**2).sum())
    return bool(scale > 0 and (one * other).sum() < CUT * scale)


def _there(face: Sighting, roi: np.ndarray) -> bool:
    """It is where a face was that was seen in this crop."""
    return distance_to(face, roi) < SAME_PLACE * roi[2]
