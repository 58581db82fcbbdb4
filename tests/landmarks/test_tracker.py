"""Finding and following with networks whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.landmarks.choice import FaceChoice
from densefit.landmarks.crop import FaceLayout
from densefit.landmarks.detector import FaceBox
from densefit.landmarks.follow import FORGOTTEN, Trail
from densefit.landmarks.look import Looker, Place, Sighting
from densefit.landmarks.network import LandmarkNet, NetworkConfig
from densefit.landmarks.tracker import FaceTracker, TrackOptions

SIZE = 64
CONFIG = NetworkConfig(
    input_size=SIZE, widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1), head_width=8, components=4
)


def _layout() -> FaceLayout:
    """Landmarks in mirrored pairs, the last one on the axis."""
    rng = np.random.default_rng(0)
    left = rng.uniform([0, -0.1], [0.1, 0.1], (351, 2))
    points = np.concatenate([np.stack([left, left * [-1, 1]], 1).reshape(-1, 2), [[0.0, 0.0]]])
    mirror = torch.arange(703) ^ 1
    mirror[-1] = 702
    upright = torch.from_numpy(points.astype(np.float32))
    return FaceLayout(torch.arange(320), upright, mirror, "v")


class BlobNetwork(torch.nn.Module):
    """Sees a bright disc: landmarks are spread over it as over the layout; no disc, no face."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        line = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
        landmarks = torch.zeros(len(image), 703, 3)
        presence = torch.full((len(image),), -6.0)
        for i, bright in enumerate(image.float().mean(1) > 127):
            if bright.sum() < 8:
                continue
            y, x = (line[k].mean() for k in torch.nonzero(bright, as_tuple=True))
            radius = (bright.float().mean() * 4 / torch.pi).sqrt()
            landmarks[i, :, :2] = torch.stack([x, y]) + _layout().upright * 10 * radius
            landmarks[i, :, 2] = -4.0
            presence[i] = 6.0
        return landmarks, presence


@pytest.fixture
def tracker() -> FaceTracker:
    boxes = [FaceBox(30, 30, 30, 0.9), FaceBox(150, 90, 60, 0.5), FaceBox(220, 20, 20, 0.8)]
    face = Looker(LandmarkNet(CONFIG), _layout())
    face.network = BlobNetwork()
    return FaceTracker(face, lambda picture, hidden: boxes)  # type: ignore[arg-type]


class CentralBlobNetwork(BlobNetwork):
    """Sees only what is near the middle of its crop, as with several discs in a picture."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        line = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
        central = line[:, None] ** 2 + line**2 < 0.8
        return super().forward(image * central)


def _picture(*discs: tuple[float, float, float]) -> np.ndarray:
    """Discs before a wall that gets darker to the left."""
    y, x = np.mgrid[:180, :320]
    picture = np.repeat((x * 110 // 320)[..., None], 3, axis=2).astype(np.uint8)
    for cx, cy, radius in discs:
        picture[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = 255
    return picture


Disc = tuple[float, float, float]


def _next(tracker: FaceTracker, picture: np.ndarray, trail: Place | Trail) -> Sighting | None:
    """What follows in the next frame."""
    trail = Trail(trail) if isinstance(trail, Place) else trail
    return tracker.follow({"film": [picture]}, {"film": trail})[0]["film"][0]


def _begun(tracker: FaceTracker, picture: np.ndarray) -> Sighting:
    """What a film that begins with this picture shows in it."""
    first = _next(tracker, picture, Trail())
    assert first is not None
    return first


def _film(
    tracker: FaceTracker, frames: list[np.ndarray], block: int, trail: Trail | None = None
) -> tuple[list[Sighting | None], Trail]:
    """A film that goes forward by blocks."""
    seen: list[Sighting | None] = []
    trail = trail or Trail()
    for first in range(0, len(frames), block):
        some, trails = tracker.follow({"film": frames[first : first + block]}, {"film": trail})
        seen, trail = seen + some["film"], trails["film"]
    return seen, trail


def _columns(seen: list[Sighting | None]) -> list[int | None]:
    return [None if face is None else round(face.xy[:320].mean(0)[0]) for face in seen]


def test_the_largest_face_is_taken_and_none_is_guessed(tracker: FaceTracker) -> None:
    two = _picture((33, 31, 12), (146, 92, 26))
    found = tracker.find([two, _picture()])
    assert found[1] is None and found[0] is not None
    assert found[0].xy[:320].mean(0) == pytest.approx([146, 92], abs=2)
    assert found[0].roi[4] > 0.9


def test_a_doubtful_proposal_is_tried_where_there_is_no_other(tracker: FaceTracker) -> None:
    """In single pictures; a film goes on without."""
    tracker.finder = lambda picture, hidden: [FaceBox(150, 90, 60, 0.1)] if hidden else []  # type: ignore[assignment]
    picture = _picture((146, 92, 26))
    assert tracker.find([_picture(), picture])[0] is None
    assert _middle(tracker.find([_picture(), picture])[1]) == pytest.approx([146, 92], abs=2)
    assert len(tracker.find_all(picture)) == 1
    assert _next(tracker, picture, Trail()) is None


def test_following_moves_with_the_face_and_finds_it_again_when_lost(tracker: FaceTracker) -> None:
    start = tracker.find([_picture((146, 92, 26))])[0]
    assert start is not None
    moved = _next(tracker, _picture((158, 86, 25)), start.place)
    assert moved is not None and moved.xy[:320].mean(0) == pytest.approx([158, 86], abs=3)
    # Off its crop, the crop is cut again around the face.
    assert moved.roi[:2] == pytest.approx([158, 86], abs=4)
    jumped = _next(tracker, _picture((31, 30, 12)), start.place)
    assert jumped is not None and jumped.xy[:320].mean(0) == pytest.approx([31, 30], abs=2)
    assert _next(tracker, _picture(), start.place) is None


def test_a_found_face_is_studied_mirrored_too(tracker: FaceTracker) -> None:
    """Where the mirrored look disagrees, the landmark lies between and its sigma grows."""
    plain = tracker.find([_picture((146, 92, 26))])[0]
    assert plain is not None
    fair = BlobNetwork()

    class Biased(torch.nn.Module):
        """Draws the first landmark too far to the right of whatever it is shown."""

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            landmarks, presence = fair(image)
            landmarks[:, 0, 0] += 0.2
            landmarks[:, 1, 0] += 0.2
            return landmarks, presence

    tracker.face.network = Biased()
    biased = tracker.find([_picture((146, 92, 26))])[0]
    assert biased is not None
    assert biased.xy[0] == pytest.approx(plain.xy[0], abs=1.0)
    assert biased.sigma[0] > 3 * plain.sigma[0]
    assert biased.sigma[5] == pytest.approx(plain.sigma[5], rel=0.2)


def test_results_do_not_depend_on_the_batch(tracker: FaceTracker) -> None:
    pictures = [_picture((140 + 3 * i, 92, 26)) for i in range(5)]
    together = tracker.find(pictures)
    for one, picture in zip(together, pictures, strict=True):
        alone = tracker.find([picture])[0]
        assert one is not None and alone is not None
        np.testing.assert_array_equal(one.xy, alone.xy)


class SureNetwork(BlobNetwork):
    """Like BlobNetwork, four times surer of the first landmarks, which it sees to the left."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        landmarks, presence = super().forward(image)
        landmarks[:, :10, 0] -= 0.1
        landmarks[:, :10, 2] -= float(np.log(4))
        landmarks[:, 10:, 2] += float(np.log(4))
        return landmarks, presence


def test_the_closeup_moves_what_it_is_surer_of(tracker: FaceTracker) -> None:
    picture = _picture((146, 92, 26))
    plain = tracker.find([picture])[0]
    layout = replace(_layout(), ratio=1.3)
    tracker.closeup = Looker(LandmarkNet(CONFIG), layout)
    tracker.closeup.network = SureNetwork()
    sharp = tracker.find([picture])[0]
    assert plain is not None and sharp is not None
    np.testing.assert_array_equal(sharp.roi, plain.roi)
    np.testing.assert_allclose(sharp.xy[10:], plain.xy[10:], atol=0.4)
    # Mirrored looks lean to the other side: while studied the two cancel, while followed not.
    followed = _next(tracker, picture, sharp.place)
    assert followed is not None
    shift = followed.xy[:10, 0] - plain.xy[:10, 0]
    side = 1.3 * np.ptp(plain.xy[:320], axis=0).max()
    np.testing.assert_allclose(shift, -0.1 * side / 2 * 16 / 17, rtol=0.35)
    assert _next(tracker, _picture(), sharp.place) is None


def _middle(face: Sighting | None) -> list[float]:
    assert face is not None
    return list(face.xy[:320].mean(0))


@pytest.mark.parametrize(
    ("choice", "x"), [("largest", 146), ("left", 33), ("right", 222), ("track 2", 33)]
)
def test_which_of_several_faces(tracker: FaceTracker, choice: str, x: float) -> None:
    tracker.options = TrackOptions(face=FaceChoice.parse(choice))
    tracker.face.network = CentralBlobNetwork()
    three = _picture((33, 31, 12), (146, 92, 26), (222, 21, 9))
    assert _middle(tracker.find([three])[0])[0] == pytest.approx(x, abs=2)


def test_a_face_found_anew_is_the_one_that_was_there(tracker: FaceTracker) -> None:
    """Lost for a moment beside a larger face: the smaller one is not exchanged for it."""
    tracker.face.network = CentralBlobNetwork()
    tracker.options = TrackOptions(face=FaceChoice("left"))
    small = tracker.find([_picture((33, 31, 12), (146, 92, 26))])[0]
    assert small is not None
    tracker.options = TrackOptions(lost_sigma=0.0)  # every look counts as lost
    again = _next(tracker, _picture((36, 30, 12), (146, 92, 26)), small.place)
    assert _middle(again) == pytest.approx([36, 30], abs=2)


def test_a_bystander_is_not_taken_for_the_lost_person(tracker: FaceTracker) -> None:
    tracker.face.network = CentralBlobNetwork()
    both = _picture((33, 31, 12), (146, 92, 26))
    tracker.options = TrackOptions(face=FaceChoice("left"))
    trail = Trail(_begun(tracker, both).place, picture=both)
    # The left one is gone: the other, who stood there before, is somebody else ...
    assert _next(tracker, _picture((146, 92, 26)), trail) is None
    # ... and who comes in elsewhere is the lost one; so is anybody after a cut.
    back = _next(tracker, _picture((222, 21, 9), (146, 92, 26)), trail)
    assert _middle(back) == pytest.approx([222, 21], abs=2)
    empty = replace(trail, picture=_picture())
    assert _middle(_next(tracker, _picture((146, 92, 26)), empty))[0] > 140


def seeing(tracker: FaceTracker) -> None:
    """The detector proposes every disc, wherever it is."""
    import cv2

    def boxes(picture: np.ndarray, hidden: bool) -> list[FaceBox]:
        found = cv2.connectedComponentsWithStats((picture[..., 0] > 127).astype(np.uint8))
        return [FaceBox(*found[3][k], 2.3 * found[2][k][2] / 2, 0.9) for k in range(1, found[0])]

    tracker.face.network = CentralBlobNetwork()
    tracker.finder = boxes  # type: ignore[assignment]


@pytest.mark.parametrize("block", [1, 4, 16])
def test_after_a_cut_one_face_is_chosen_and_kept(tracker: FaceTracker, block: int) -> None:
    """Sizes that differ little and change: each frame by itself would choose now one, now the
    other."""
    seeing(tracker)
    alone = [_picture((150, 90, 22))] * 5
    two = [_picture((50, 60, 20 + i % 2), (260, 120, 21 - i % 2)) for i in range(1, 12)]
    seen, _ = _film(tracker, alone + two, block)
    assert set(_columns(seen)[:5]) == {150}
    assert set(_columns(seen)[5:]) == {50}


def test_a_face_that_is_hardly_found_is_followed_from_there(tracker: FaceTracker) -> None:
    """The detector sees it in one frame only."""
    seeing(tracker)
    boxes, calls = tracker.finder, []

    def once(picture: np.ndarray, hidden: bool) -> list[FaceBox]:
        calls.append(picture)
        return boxes(picture, hidden) if len(calls) == 4 else []

    tracker.finder = once  # type: ignore[assignment]
    seen, _ = _film(tracker, [_picture((150 + i, 90, 22)) for i in range(12)], 16)
    first = next(i for i, face in enumerate(seen) if face is not None)
    assert first <= 4 and all(face is not None for face in seen[first:])


@pytest.mark.parametrize("speed", [0, 3])
@pytest.mark.parametrize("block", [1, 4, 16])
def test_bystanders_are_followed_while_the_person_is_lost(
    tracker: FaceTracker, speed: int, block: int
) -> None:
    """Hidden for a while, wherever the blocks begin; the other stands, or walks on."""
    seeing(tracker)
    hidden = range(6, 30)
    frames = []
    for i in range(40):
        other = (200 + speed * i, 60, 14) if 200 + speed * i < 310 else None
        discs = [other, None if i in hidden else (60, 110, 25)]
        frames.append(_picture(*[disc for disc in discs if disc is not None]))
    seen, _ = _film(tracker, frames, block)
    assert [face is None for face in seen] == [i in hidden for i in range(40)]
    assert {x for x in _columns(seen) if x is not None} == {60}


@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize("close", [(195, 80, 45), (210, 65, 15)])
def test_after_a_cut_anybody_may_be_the_person(
    tracker: FaceTracker, block: int, close: Disc
) -> None:
    """A close-up where the bystander was, or somebody of the same size in another place."""
    seeing(tracker)
    two = [_picture((60, 110, 25), (200, 60, 14))] * 6
    mirrored = (319 - close[0], close[1], close[2])
    alone = _picture(mirrored)[:, ::-1].copy()  # another place: its wall is dark on the right
    seen, _ = _film(tracker, two + [alone] * 6, block)
    assert _columns(seen) == [60] * 6 + [close[0]] * 6


def test_who_stands_close_by_is_not_the_person(tracker: FaceTracker) -> None:
    """Also where the detector no longer finds the person in the last frame."""
    seeing(tracker)
    boxes = tracker.finder
    frames = [_picture((80, 110, 25), (145, 110, 22))] * 5 + [_picture((145, 110, 22))] * 5
    begun = Trail(_begun(tracker, frames[0]).place, picture=frames[0])
    tracker.finder = lambda *shown: [b for b in boxes(*shown) if b.x > 100]  # type: ignore[assignment]
    seen, _ = _film(tracker, frames[1:], 4, begun)
    assert _columns(seen) == [80] * 4 + [None] * 5


class WaryNetwork(CentralBlobNetwork):
    """Sees no face in a disc that is cut off."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        line = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
        distance = line[:, None] ** 2 + line**2
        landmarks, presence = super().forward(image)
        edge = ((image.float().mean(1) > 127) & (distance > 0.7) & (distance < 0.8)).any((1, 2))
        return landmarks, torch.where(edge, -6.0, presence)


@pytest.mark.parametrize("block", [4, 16])
def test_a_fast_face_is_not_exchanged_for_a_larger_one(tracker: FaceTracker, block: int) -> None:
    """It leaves its place within a block, and the larger one is nearer to where it was."""
    seeing(tracker)
    tracker.face.network = WaryNetwork()
    frames = [_picture((40 + 3 * i, 130, 15), (150, 50, 20)) for i in range(30)]
    first = Trail(_begun(tracker, _picture((40, 130, 15))).place, picture=frames[0])
    seen, _ = _film(tracker, frames, block, first)
    np.testing.assert_allclose(_columns(seen), [40 + 3 * i for i in range(30)], atol=2)


def test_the_numbered_face_is_found_again_elsewhere(tracker: FaceTracker) -> None:
    """It is still the second largest when the first is known and left out."""
    seeing(tracker)
    tracker.options = TrackOptions(face=FaceChoice("track", 2))
    large, gone = (150, 110, 40), [_picture((150, 110, 40))] * 3
    frames = [_picture(large, (40, 40, 20))] * 3 + gone + [_picture(large, (280, 40, 20))] * 3
    seen, _ = _film(tracker, frames, 4)
    assert _columns(seen) == [40] * 3 + [None] * 3 + [280] * 3


def test_a_person_who_is_lost_for_long_is_forgotten(tracker: FaceTracker) -> None:
    seeing(tracker)
    both = _picture((33, 31, 12), (146, 92, 26))
    tracker.options = TrackOptions(face=FaceChoice("left"))
    trail = Trail(_begun(tracker, both).place, picture=both)
    other = _picture((146, 92, 26))
    seen, trail = _film(tracker, [other] * 4, 4, trail)
    assert seen == [None] * 4 and trail.lost == 4 and trail.others is not None
    seen, _ = _film(tracker, [other] * 4, 4, replace(trail, lost=FORGOTTEN - 2))
    assert _columns(seen) == [None, None, None, 146]


def test_a_trail_survives_its_file(tracker: FaceTracker) -> None:
    """An interrupted run goes on exactly as it would have."""
    seeing(tracker)
    frames = [_picture(*([] if 5 <= i < 20 else [(60, 110, 25)]), (220, 60, 14)) for i in range(24)]
    whole, _ = _film(tracker, frames, 4)
    for cut in (4, 8, 12):
        _, trail = _film(tracker, frames[:cut], 4)
        again = Trail.of(trail.arrays(), frames[cut - 1])
        later, _ = _film(tracker, frames[cut:], 4, again)
        for one, other in zip(whole[cut:], later, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                np.testing.assert_array_equal(one.xy, other.xy)


def test_face_choices_are_checked() -> None:
    for text in ("biggest", "track", "track 0", "track -1", "left right", ""):
        with pytest.raises(ValueError, match="largest, left, right"):
            FaceChoice.parse(text)


def test_on_a_still_face_the_crop_holds_still(tracker: FaceTracker) -> None:
    """Crops that follow the noise of their own landmarks would shake."""
    layout = replace(_layout(), ratio=1.3)
    tracker.closeup = Looker(LandmarkNet(CONFIG), layout)
    tracker.closeup.network = BlobNetwork()
    first = _begun(tracker, _picture((146, 92, 26)))
    assert first is not None and first.closeup is not None
    second = _next(tracker, _picture((147, 92, 26)), first.place)
    assert second is not None and second.closeup is not None
    np.testing.assert_array_equal(second.roi[:4], first.roi[:4])
    np.testing.assert_array_equal(second.closeup, first.closeup)
    moved = _next(tracker, _picture((154, 92, 26)), second.place)
    assert moved is not None and moved.closeup is not None
    assert moved.closeup[0] > first.closeup[0] + 3


def test_a_film_begins_as_it_goes_on(tracker: FaceTracker) -> None:
    """The first frame is not studied through more crops than the next ones."""

    class Leaning(BlobNetwork):
        """Sees the first landmarks too far to the left, so that mirrored looks would show."""

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            landmarks, presence = super().forward(image)
            landmarks[:, :10, 0] -= 0.1
            return landmarks, presence

    tracker.face.network = Leaning()
    picture = _picture((146, 92, 26))
    first = _begun(tracker, picture)
    assert first is not None
    second = _next(tracker, picture, first.place)
    assert second is not None
    np.testing.assert_allclose(second.xy, first.xy, atol=0.2)
    studied = tracker.find([picture])[0]
    assert studied is not None and abs(studied.xy[0, 0] - first.xy[0, 0]) > 1


def test_a_closed_tracker_leaves_no_threads_and_works_again(tracker: FaceTracker) -> None:
    import threading

    before, threads = set(threading.enumerate()), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pictures = [_picture((140 + 3 * i, 92, 26)) for i in range(9)]
        found = tracker.find(pictures)
        begun = set(threading.enumerate()) - before
        assert begun
        tracker.close()
        assert not any(thread.is_alive() for thread in begun)
        for one, other in zip(tracker.find(pictures), found, strict=True):
            assert one is not None and other is not None
            np.testing.assert_array_equal(one.xy, other.xy)
        tracker.close()
    finally:
        torch.set_num_threads(threads)
