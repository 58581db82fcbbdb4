"""Broken inputs of every kind, made fresh from a seed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from recordings import encode_video, number_picture

CONTAINERS: dict[str, dict[str, Any]] = {
    "a.mp4": {},
    "fast.mp4": {"movflags": "faststart"},
    "a.mkv": {},
    "a.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "a.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "a.ts": {},
    "a.avi": {"codec": "mjpeg"},
}


def cut_videos(folder: Path, places: int) -> Iterator[Path]:
    """Every container, cut at several places."""
    for name, options in CONTAINERS.items():
        data = encode_video(folder / "whole" / name, n=24, **options).read_bytes()
        for part in range(1, places + 1):
            yield written(folder, f"cut{part}_{name}", data[: len(data) * part // (places + 1)])


def flipped_videos(folder: Path, rounds: int) -> Iterator[Path]:
    """Every container with bits flipped, most of them in its headers."""
    rng = np.random.default_rng(1)
    for name, options in CONTAINERS.items():
        good = np.frombuffer(
            encode_video(folder / "whole" / name, n=24, **options).read_bytes(), np.uint8
        )
        for number in range(rounds):
            data = good.copy()
            reach = len(data) if number % 2 else min(len(data), 600)
            where = rng.integers(0, reach, 12)
            data[where] ^= (1 << rng.integers(0, 8, 12)).astype(np.uint8)
            yield written(folder, f"flip{number}_{name}", data.tobytes())


def odd_files(folder: Path) -> Iterator[Path]:
    """Files that are not what their names say, or are nothing at all."""
    video = encode_video(folder / "whole" / "a.mp4", n=3).read_bytes()
    ok, picture = cv2.imencode(".png", number_picture(1))
    assert ok
    for suffix in ("mp4", "mkv", "avi", "mov", "webm", "ts", "jpg", "png", "hdr", "tiff", "yaml"):
        yield written(folder, f"empty.{suffix}", b"")
        yield written(folder, f"text.{suffix}", b"this is no recording\n" * 40)
        yield written(folder, f"zeros.{suffix}", bytes(5000))
    for suffix in ("jpg", "png", "tiff", "webp", "yaml"):
        yield written(folder, f"video_as.{suffix}", video)
    yield written(folder, "picture_as.yaml", picture.tobytes())
    for size in (9, 40, 100, len(picture) // 2):
        yield written(folder, f"cut{size}.png", picture.tobytes()[:size])
    yield written(folder, "bomb.png", png_bomb(30000))
    yield encode_video(folder / "none.mkv", n=0)


def png_bomb(side: int) -> bytes:
    """A valid PNG of a few MB whose picture takes gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(40)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


GOOD_CAMERA: dict[str, Any] = {
    "width": 96,
    "height": 64,
    "K": [[100.0, 0, 48], [0, 100.0, 32], [0, 0, 1]],
    "dist": [0.0, 0, 0, 0, 0],
    "T_camera_world": np.eye(4).tolist(),
}


def bad_rigs() -> Iterator[tuple[str, str]]:
    """(what is wrong, text of rig.yaml); the camera is `left`."""
    left_handed = np.diag([1.0, 1, -1, 1]).tolist()
    sheared = (np.eye(4) + np.eye(4, k=1) * 0.2).tolist()
    changes: dict[str, dict[str, Any]] = {
        "nan focal": {"K": [[float("nan"), 0, 48], [0, 100, 32], [0, 0, 1]]},
        "infinite centre": {"K": [[100, 0, float("inf")], [0, 100, 32], [0, 0, 1]]},
        "negative focal": {"K": [[-100, 0, 48], [0, 100, 32], [0, 0, 1]]},
        "zero focal": {"K": [[0, 0, 48], [0, 0, 32], [0, 0, 1]]},
        "skew": {"K": [[100, 5, 48], [0, 100, 32], [0, 0, 1]]},
        "K of text": {"K": "100 0 48"},
        "K too small": {"K": [[100, 0], [0, 100]]},
        "ragged K": {"K": [[100, 0, 48], [0, 100], [0, 0, 1]]},
        "left-handed": {"T_camera_world": left_handed},
        "sheared": {"T_camera_world": sheared},
        "list in a pose": {"T_camera_world": [[[], 0, 0, 0], *np.eye(4)[1:].tolist()]},
        "400 digits in a pose": {"T_camera_world": [[10**400, 0, 0, 0], *np.eye(4)[1:].tolist()]},
        "400 digits in K": {"K": [[10**400, 0, 48], [0, 100, 32], [0, 0, 1]]},
        "nan pose": {"T_camera_world": [[float("nan")] * 4] * 4},
        "pose 3x4": {"T_camera_world": np.eye(4)[:3].tolist()},
        "huge translation": {"T_camera_world": [[1, 0, 0, 1e308], *np.eye(4)[1:].tolist()]},
        "infinite distortion": {"dist": [float("inf"), 0, 0, 0]},
        "three coefficients": {"dist": [0.1, 0.2, 0.3]},
        "width of text": {"width": "wide"},
        "width zero": {"width": 0},
        "width negative": {"width": -96},
        "width a fraction": {"width": 96.5},
        "width true": {"width": True},
        "width huge": {"width": 10**30},
        "other aspect": {"width": 200},
        "unknown model": {"model": "pinhole"},
        "unknown key": {"focal": 100},
        "camera a list": [],  # type: ignore[dict-item]
    }
    for what, change in changes.items():
        camera = {**GOOD_CAMERA, **change} if isinstance(change, dict) else change
        yield what, yaml.safe_dump({"version": 1, "cameras": {"left": camera}})
    good = yaml.safe_dump({"version": 1, "cameras": {"left": GOOD_CAMERA}})
    yield "python tag", "version: 1\ncameras: !!python/object/apply:os.system ['touch {marker}']\n"
    yield "python name", "version: 1\nunits: !!python/name:os.system\ncameras: {}\n"
    yield "local tag", "version: 1\ncameras: !cameras {left: {width: 96, height: 64}}\n"
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    yield "alias bomb", bomb + good
    yield "deep", "version: 1\ncameras: " + "[" * 5000 + "]" * 5000
    yield "long", "version: 1\n# " + "x" * 5_000_000
    yield "unknown version", good.replace("version: 1", "version: 7")
    yield "text version", good.replace("version: 1", "version: one")
    yield "unknown units", good + "units: inch\n"
    yield "up of 400 digits", good + f"up: [0, 1{400 * '0'}, 0]\n"
    yield "up of zeros", good + "up: [0, 0, 0]\n"
    yield "twice", good + "version: 1\n"
    yield "not UTF-8", "version: 1\ncameras: \udcff\n"
    yield "tabs", "version: 1\ncameras:\n\tleft: 3\n"
    yield "control", "version: 1\ncameras: \x00\n"
    yield "list", "- version\n- cameras\n"
    yield "nothing", "\n"
    yield "traversal", good.replace("left", "../left")


def bad_takes() -> Iterator[tuple[str, str]]:
    """(what is wrong, text of take.yaml); rig.yaml and left.mp4 beside it are good."""
    good = "rig: rig.yaml\ncameras: {left: left.mp4}\n"
    yield "traversal in a name", "rig: rig.yaml\ncameras: {../../left: left.mp4}\n"
    yield "absolute name", "rig: rig.yaml\ncameras: {/left: left.mp4}\n"
    yield "a device", "cameras: {left: /dev/zero}\n"
    yield "a secret", "cameras: {left: ../../../../../../etc/passwd}\n"
    yield "its own folder", "cameras: {left: .}\n"
    yield "itself", "cameras: {left: take.yaml}\n"
    yield "a number", "cameras: {left: 7}\n"
    yield "null bytes", 'cameras: {left: "a\\0b.mp4"}\n'
    yield "a very long name", f"cameras: {{left: {'x' * 5000}.mp4}}\n"
    yield "no such rig", "rig: other.yaml\ncameras: {left: left.mp4}\n"
    yield "rig a list", "rig: [rig.yaml]\ncameras: {left: left.mp4}\n"
    yield "no such camera", "rig: rig.yaml\ncameras: {lfet: left.mp4}\n"
    yield "offset nan", good + "offsets: {left: .nan}\n"
    yield "offset infinite", good + "offsets: {left: .inf}\n"
    yield "offset of a hundred digits", good + f"offsets: {{left: 1{99 * '0'}}}\n"
    yield "offset of 400 digits", good + f"offsets: {{left: 1{399 * '0'}}}\n"
    yield "offset of text", good + "offsets: {left: soon}\n"
    yield "clock rate 2", good + "clock_rates: {left: 2}\n"
    yield "clock rate nan", good + "clock_rates: {left: .nan}\n"
    yield "sync by stars", good + "sync: stars\n"
    yield "sync by nothing", good + "sync: none.csv\n"
    yield "sync by number", good + "sync: 3\n"
    yield "pattern without number", "cameras: {left: left/%d%d.png}\n"
    yield "python tag", "cameras: !!python/object/apply:os.system ['touch {marker}']\n"


class _Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def bad_landmarks(marker: Path) -> Iterator[tuple[str, bytes]]:
    """(what is wrong, bytes of landmarks/left.npz for 12 frames)."""
    good = {
        "xy": np.zeros((12, 703, 2), np.float32),
        "sigma": np.ones((12, 703), np.float32),
        "time": np.arange(12) / 25,
        "valid": np.ones(12, bool),
        "roi": np.ones((12, 5), np.float32),
        "landmarks_version": np.asarray("x"),
    }
    changes: dict[str, dict[str, Any]] = {
        "pickled": {"xy": np.array([_Evil(marker)], dtype=object)},
        "short": {"xy": good["xy"][:5]},
        "flat": {"xy": good["xy"].ravel()},
        "sigma transposed": {"sigma": good["sigma"].T},
        "no time": {"time": np.asarray(0.0)},
        "time backwards": {"time": good["time"][::-1]},
        "time nan": {"time": np.full(12, np.nan)},
        "nan seen": {"xy": np.full_like(good["xy"], np.nan)},
        "sigma negative": {"sigma": -good["sigma"]},
        "text": {"xy": np.asarray("text")},
        "integers": {"xy": good["xy"].astype(int)},
        "valid of floats": {"valid": np.ones(12)},
        "another version": {},
    }
    for what, change in changes.items():
        yield what, npz({**good, **change})
    data = npz(good)
    for size in (0, 20, len(data) // 2, len(data) - 10):
        yield f"cut at {size}", data[:size]
    yield "text file", b"no archive"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 703, 2), }\n"
    huge = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    yield "claims terabytes", archive({"xy.npy": huge})
    yield "lacks arrays", npz({"xy": good["xy"]})
    rng = np.random.default_rng(2)
    for number in range(6):
        broken = np.frombuffer(data, np.uint8).copy()
        broken[rng.integers(0, 300, 5)] ^= 255
        yield f"flipped {number}", broken.tobytes()


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, data in files.items():
            target.writestr(name, data)
    return stream.getvalue()


def written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name
