"""Photos, folders of photos, and films in numbered files."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import number_picture, read_number

from densefit.capture import load_take, open_frames, open_source
from densefit.capture.photos import read_photo
from densefit.errors import InputError

PICTURE = number_picture(5)


def save(path: Path, rgb: np.ndarray = PICTURE) -> Path:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp", "ppm"])
def test_a_photo_is_one_frame(suffix: str, tmp_path: Path) -> None:
    take = load_take([save(tmp_path / f"my photo.{suffix}")])
    source = take.sources["my_photo"]
    assert (source.kind, source.width, source.height) == ("photo", 96, 64)
    assert not take.independent_frames
    frames = list(open_frames(source))
    assert [(f.index, f.time) for f in frames] == [(0, 0.0)]
    np.testing.assert_allclose(frames[0].image[4, 4], (220, 20, 20), atol=25)
    assert read_number(frames[0].image) == 5


def exif(orientation: int) -> bytes:
    """A JPEG APP1 segment that holds nothing but the orientation."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 1) + entry + b"\x00" * 4
    body = b"Exif\x00\x00" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_exif_orientation_is_applied(orientation: int, turns: int, tmp_path: Path) -> None:
    path = save(tmp_path / "phone.jpg")
    upright = read_photo(path)
    data = path.read_bytes()
    path.write_bytes(data[:2] + exif(orientation) + data[2:])
    np.testing.assert_array_equal(read_photo(path), np.rot90(upright, turns))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp", "ppm", "hdr", "jp2"])
def test_folders_of_every_type(suffix: str, tmp_path: Path) -> None:
    save(tmp_path / "folder" / f"a.{suffix}")
    (frame,) = open_frames(load_take([tmp_path / "folder"]).sources["folder"])
    assert frame.image.shape == PICTURE.shape


def test_sixteen_bits_grey_and_transparency(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((8, 8, 3), 40000, np.uint16))
    assert read_photo(path).dtype == np.uint8
    np.testing.assert_allclose(read_photo(path), 156, atol=1)
    cv2.imwrite(str(path), np.full((8, 8), 77, np.uint8))
    np.testing.assert_array_equal(read_photo(path), np.full((8, 8, 3), 77))
    cv2.imwrite(str(path), np.dstack([PICTURE[..., ::-1], np.zeros((64, 96), np.uint8)]))
    np.testing.assert_array_equal(read_photo(path), PICTURE)


def test_high_dynamic_range_is_exposed_for_its_median(tmp_path: Path) -> None:
    path = tmp_path / "sky.hdr"
    radiance = np.full((16, 16, 3), 50.0, np.float32)
    radiance[:4] = 5000.0
    cv2.imwrite(str(path), radiance)
    image = read_photo(path)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image[10], 118, atol=2)  # 18 % grey in sRGB
    np.testing.assert_array_equal(image[0], np.full((16, 3), 255))


def test_a_folder_of_photos_is_separate_pictures_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "people"
    for number in (10, 2, 1):
        save(folder / f"img{number}.png", number_picture(number))
    save(folder / "img3.jpg", number_picture(3, 192, 128))  # sizes may differ
    (folder / "notes.txt").touch()
    (folder / "img11.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"img11\.png: not a picture"):
        load_take([folder])
    (folder / "img11.png").unlink()
    take = load_take([folder])
    assert take.independent_frames
    source = take.sources["people"]
    assert source.kind == "photos"
    frames = list(open_frames(source))
    assert [read_number(f.image) for f in frames] == [1, 2, 3, 10]
    assert [f.time for f in frames] == [0, 1, 2, 3]
    assert frames[2].image.shape == (128, 192, 3)


def test_the_same_folder_as_a_film(tmp_path: Path) -> None:
    folder = tmp_path / "film"
    for number in range(4):
        save(folder / f"{number}.png", number_picture(number))
    take = load_take([folder], sequence=True, fps=50)
    assert not take.independent_frames
    source = take.sources["film"]
    assert (source.kind, source.fps, source.n_frames_estimate) == ("sequence", 50, 4)
    assert [f.time for f in open_frames(source)] == pytest.approx([0, 0.02, 0.04, 0.06])
    save(folder / "4.png", number_picture(4, 192, 128))
    with pytest.raises(InputError, match=r"4\.png.*192x128.*96x64"):
        list(open_frames(load_take([folder], sequence=True).sources["film"]))


def test_numbered_pattern(tmp_path: Path) -> None:
    for number in (7, 8, 9, 10):
        save(tmp_path / f"left_{number:06d}.png", number_picture(number))
    save(tmp_path / "left_8.png")  # not written by %06d
    source = open_source("left", tmp_path / "left_%06d.png")
    assert source.kind == "sequence"
    assert [read_number(f.image) for f in open_frames(source)] == [7, 8, 9, 10]
    assert [read_number(f.image) for f in open_frames(source, start=1, every=2)] == [8, 10]
    (tmp_path / "left_000009.png").unlink()
    with pytest.raises(InputError, match="picture number 9 is missing"):
        open_source("left", tmp_path / "left_%06d.png")
    with pytest.raises(InputError, match="no pictures there"):
        open_source("left", tmp_path / "right_%06d.png")
    with pytest.raises(InputError, match="no such folder"):
        open_source("left", tmp_path / "none" / "%06d.png")


def test_a_broken_picture_ends_a_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png", number_picture(number))
    (tmp_path / "2.png").write_bytes(b"not a picture")
    source = open_source("cam", tmp_path / "%d.png")
    assert [read_number(f.image) for f in open_frames(source)] == [0, 1]
    assert "last good picture 1.png" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"2\.png"):
        list(open_frames(open_source("cam", tmp_path / "%d.png", strict=True)))


def test_a_folder_tells_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "phone"
    save(folder / "a.jpg")
    (folder / "notes.txt").touch()
    load_take([folder])
    assert capsys.readouterr().err == ""
    for name in ("b.HEIC", "c.heic", "d.dng", ".hidden.gif"):
        (folder / name).touch()
    assert len(load_take([folder]).sources["phone"].files) == 1
    message = capsys.readouterr().err
    assert f"{folder}: " in message and "left out (1 .dng, 2 .heic)" in message


@pytest.mark.parametrize(
    ("names", "missing", "after"),
    [
        (["f08", "f09", "f12", "f13", "f14", "f17"], 4, "f09"),
        (["f2x", "f4x", "f6x", "f10x", "f12x"], 1, "f6x"),
        (["f1", "f2", "f3"], 0, ""),
        (["1000.031", "1000.064", "1000.098", "1000.131", "1000.172"], 0, ""),  # times
        (["a1", "b5", "c9"], 0, ""),
        (["a", "b", "c"], 0, ""),
        (["7"], 0, ""),
    ],
)
def test_holes_in_the_numbers_of_a_film(
    names: list[str],
    missing: int,
    after: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "film"
    for name in names:
        save(folder / f"{name}.png")
    load_take([folder], sequence=True)
    message = capsys.readouterr().err
    if missing:
        assert f"{folder}: {missing} of the numbers" in message and f"after {after}.png" in message
    else:
        assert message == ""
    load_take([folder])  # separate photos need no order
    assert capsys.readouterr().err == ""


def test_a_small_picture_of_a_kind_that_is_not_read(tmp_path: Path) -> None:
    """Once called damaged or larger than 128 megapixels, and nothing else."""
    path = tmp_path / "float.tif"
    assert cv2.imwrite(str(path), np.zeros((8, 8), np.float32))
    with pytest.raises(InputError, match=r"float\.tif.*of a kind that is not read \(floating"):
        read_photo(path)


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(InputError, match=r"broken\.jpg: not a picture"):
        load_take([broken])
    broken.write_bytes(b"")
    with pytest.raises(InputError, match=r"broken\.jpg: empty"):
        load_take([broken])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="empty: no pictures there"):
        load_take([empty])
