"""Finding and following with networks whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.landmarks.choice import FaceChoice
from densefit.landmarks.crop import FaceLayout
from densefit.landmarks.detector import FaceBox
from densefit.landmarks.look import Looker, Sighting
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
    y, x = np.mgrid[:180, :320]
    picture = np.zeros((180, 320, 3), np.uint8)
    for cx, cy, radius in discs:
        picture[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = 255
    return picture


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
    assert tracker.find([picture], film=True) == [None]


def test_following_moves_with_the_face_and_finds_it_again_when_lost(tracker: FaceTracker) -> None:
    start = tracker.find([_picture((146, 92, 26))])[0]
    assert start is not None
    moved = tracker.follow([_picture((158, 86, 25))], [start.place])[0]
    assert moved is not None and moved.xy[:320].mean(0) == pytest.approx([158, 86], abs=3)
    # Off its crop, the crop is cut again around the face.
    assert moved.roi[:2] == pytest.approx([158, 86], abs=4)
    jumped = tracker.follow([_picture((31, 30, 12))], [start.place])[0]
    assert jumped is not None and jumped.xy[:320].mean(0) == pytest.approx([31, 30], abs=2)
    assert tracker.follow([_picture()], [start.place]) == [None]


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
    followed = tracker.follow([picture], [sharp.place])[0]
    assert followed is not None
    shift = followed.xy[:10, 0] - plain.xy[:10, 0]
    side = 1.3 * np.ptp(plain.xy[:320], axis=0).max()
    np.testing.assert_allclose(shift, -0.1 * side / 2 * 16 / 17, rtol=0.35)
    assert tracker.follow([_picture()], [sharp.place]) == [None]


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
    again = tracker.follow([_picture((36, 30, 12), (146, 92, 26))], [small.place])[0]
    assert _middle(again) == pytest.approx([36, 30], abs=2)


def test_a_bystander_is_not_taken_for_the_lost_person(tracker: FaceTracker) -> None:
    tracker.face.network = CentralBlobNetwork()
    both = _picture((33, 31, 12), (146, 92, 26))
    tracker.options = TrackOptions(face=FaceChoice("left"))
    first = tracker.find([both], film=True)[0]
    assert first is not None
    place = replace(first.place, picture=both)
    # The left one is gone: the other, who stood there before, is somebody else ...
    assert tracker.follow([_picture((146, 92, 26))], [place]) == [None]
    # ... and who comes in elsewhere is the lost one; so is anybody after a cut.
    back = tracker.follow([_picture((222, 21, 9), (146, 92, 26))], [place])[0]
    assert _middle(back) == pytest.approx([222, 21], abs=2)
    empty = replace(first.place, picture=_picture())
    assert _middle(tracker.follow([_picture((146, 92, 26))], [empty])[0])[0] > 140


def test_face_choices_are_checked() -> None:
    for text in ("biggest", "track", "track 0", "track -1", "left right", ""):
        with pytest.raises(ValueError, match="largest, left, right"):
            FaceChoice.parse(text)


def test_on_a_still_face_the_crop_holds_still(tracker: FaceTracker) -> None:
    """Crops that follow the noise of their own landmarks would shake."""
    layout = replace(_layout(), ratio=1.3)
    tracker.closeup = Looker(LandmarkNet(CONFIG), layout)
    tracker.closeup.network = BlobNetwork()
    first = tracker.find([_picture((146, 92, 26))], film=True)[0]
    assert first is not None and first.closeup is not None
    second = tracker.follow([_picture((147, 92, 26))], [first.place])[0]
    assert second is not None and second.closeup is not None
    np.testing.assert_array_equal(second.roi[:4], first.roi[:4])
    np.testing.assert_array_equal(second.closeup, first.closeup)
    moved = tracker.follow([_picture((154, 92, 26))], [second.place])[0]
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
    first = tracker.find([picture], film=True)[0]
    assert first is not None
    second = tracker.follow([picture], [first.place])[0]
    assert second is not None
    np.testing.assert_allclose(second.xy, first.xy, atol=0.2)
    studied = tracker.find([picture])[0]
    assert studied is not None and abs(studied.xy[0, 0] - first.xy[0, 0]) > 1
