"""Pictures turned and mirrored: every display matrix, in videos and in AVIF."""

from __future__ import annotations

import gc
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from recordings import HEIGHT, WIDTH, MakeVideo, number_picture, read_number

from densefit.capture import open_frames, open_source
from densefit.capture.orientation import UPRIGHT, orientation_of, oriented
from densefit.capture.photos import read_photo

ONE = 1 << 16
TURNS = [
    (a * i, b * j, c * j, d * i)
    for a, d in product((ONE, -ONE), repeat=2)
    for b, c in [(a, d)]
    for i, j in ((1, 0), (0, 1))
]


def display_matrix(a: int, b: int, c: int, d: int) -> list[int]:
    return [a, b, 0, c, d, 0, 0, 0, 1 << 30]


def shown(image: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Each pixel put where the matrix says, one by one."""
    places = {}
    for y, x in product(*map(range, image.shape[:2])):
        places[(b * x + d * y) // ONE, (a * x + c * y) // ONE] = image[y, x]
    rows, columns = (sorted({place[axis] for place in places}) for axis in (0, 1))
    return np.array([[places[row, column] for column in columns] for row in rows])


@pytest.mark.parametrize("turn", TURNS)
def test_every_quarter_turn_and_mirror_image(turn: tuple[int, int, int, int]) -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    data = np.array(display_matrix(*turn), np.int32).tobytes()
    picture = SimpleNamespace(side_data={"DISPLAYMATRIX": data})
    np.testing.assert_array_equal(oriented(image, orientation_of(picture)), shown(image, *turn))


@pytest.mark.parametrize(("rotation", "turns"), [(0, 0), (90, 1), (-180, 2), (180, 2), (-90, 3)])
def test_side_data_without_a_name(rotation: int, turns: int) -> None:
    """PyAV cannot list them all; what it tells of the rotation is used."""

    class Picture:
        @property
        def side_data(self) -> dict[str, bytes]:
            raise ValueError("30 is not a valid Type")

    picture = Picture()
    picture.rotation = rotation  # type: ignore[attr-defined]
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(oriented(image, orientation_of(picture)), np.rot90(image, turns))


@pytest.mark.parametrize("data", [None, b"", b"\0" * 35, b"\0" * 36])
def test_a_matrix_that_says_nothing(data: bytes | None) -> None:
    picture = SimpleNamespace(side_data={} if data is None else {"DISPLAYMATRIX": data})
    assert orientation_of(picture) == UPRIGHT


def test_a_mirrored_video_is_not_upside_down(make_video: MakeVideo) -> None:
    """Front cameras mirror their pictures; once a half turn was made of it."""
    plain = next(open_frames(open_source("cam", make_video("plain.mp4", n=2)))).image
    for turn in ((-ONE, 0, 0, ONE), (ONE, 0, 0, -ONE), (0, ONE, ONE, 0)):
        path = make_video("mirrored.mp4", n=2, matrix=display_matrix(*turn))
        source = open_source("cam", path)
        image = next(open_frames(source)).image
        np.testing.assert_array_equal(image, shown(plain, *turn))
        assert image.shape == (source.height, source.width, 3)


def test_decoded_pictures_do_not_pile_up(make_video: MakeVideo) -> None:
    """Reading a picture's side data ties it to itself; only the garbage collector frees it then."""
    source = open_source("cam", make_video(n=20))
    gc.collect()
    gc.disable()
    try:
        before = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
        assert sum(1 for _ in open_frames(source)) == 20
        after = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert after - before < 5


def test_avif_is_turned_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "phone.avif"
    if not cv2.imwrite(str(path), number_picture(5)[..., ::-1]):
        pytest.skip("this OpenCV cannot write AVIF")
    upright = read_photo(path)
    assert read_number(upright) == 5
    # The second of the picture's properties, its bit depth, becomes an essential rotation.
    data = path.read_bytes()
    assert data.count(b"pixi\0\0\0\0") == 1 and data.count(b"\x04\x01\x02") == 1
    data = data.replace(b"pixi\0\0\0\0", b"irot\1\0\0\0").replace(b"\x04\x01\x02", b"\x04\x01\x82")
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation == 90
    turned = read_photo(path)
    assert turned.shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(turned, np.rot90(upright))
