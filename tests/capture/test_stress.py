"""Rough treatment: files damaged at random end in frames or in one clear line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from recordings import MakeVideo, number_picture

from calibration import CalibrationError, read_rig
from densefit.capture import load_take, open_frames
from densefit.errors import InputError

pytestmark = pytest.mark.stress


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, overwrite, flip bits, or take a piece out."""
    values = np.frombuffer(data, np.uint8).copy()
    kind = rng.integers(4)
    start = int(rng.integers(len(values)))
    length = int(rng.integers(1, 2000))
    if kind == 0:
        return values[:start].tobytes()
    if kind == 1:
        values[start : start + length] = rng.integers(0, 256, len(values[start : start + length]))
    elif kind == 2:
        where = rng.integers(0, len(values), 20)
        values[where] ^= rng.integers(1, 256, 20).astype(np.uint8)
    else:
        return np.delete(values, np.s_[start : start + length]).tobytes()
    return values.tobytes()


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.ts", "libx264"),
        ("a.mp4", "libx265"),
        ("a.avi", "mjpeg"),
        ("a.mp4", "mpeg4"),
    ],
)
def test_damaged_videos(name: str, codec: str, make_video: MakeVideo, tmp_path: Path) -> None:
    good = make_video(name, n=60, codec=codec, options={"g": "12"}).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / f"bad{Path(name).suffix}"
    outcomes = {"frames": 0, "refused": 0}
    for _ in range(60):
        path.write_bytes(damage(good, rng))
        try:
            take = load_take([path])
            frames = list(open_frames(take.sources["bad"]))
        except InputError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            outcomes["refused"] += 1
            continue
        times = [frame.time for frame in frames]
        assert (np.diff(times) > 0).all()
        outcomes["frames"] += 1
    assert outcomes["frames"] > 5


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "ppm", "hdr"])
def test_damaged_photos(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), number_picture(3))
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        path.write_bytes(damage(good, rng))
        try:
            (frame,) = open_frames(load_take([path]).sources["a"])
        except InputError as error:
            assert str(path) in str(error)
        else:
            assert frame.image.ndim == 3


def test_damaged_rig_files(tmp_path: Path) -> None:
    camera = {
        "width": 640,
        "height": 480,
        "model": "opencv",
        "K": [[500.0, 0, 320], [0, 500.0, 240], [0, 0, 1]],
        "dist": [0.1, 0, 0, 0, 0],
        "T_camera_world": np.eye(4).tolist(),
        "std": {"focal": 1.0},
    }
    good = yaml.safe_dump({"version": 1, "units": "mm", "cameras": {"a": camera}}).encode()
    path = tmp_path / "rig.yaml"
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(
                rng.choice(list(b"0a:-.[]{}&*!|>'\"\n\x00\xff"))
            )
        path.write_bytes(data)
        try:
            read_rig(path)
        except CalibrationError as error:
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)
            refused += 1
    assert refused > 200
