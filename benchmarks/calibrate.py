"""Calibration measured: `python benchmarks/calibrate.py [--data FOLDER] [--json FILE]`.

Without --data only the speed of the bundle adjustment: 8 cameras, 400 board views. With the folder
of real recordings: OpenCV's stereo pair, three cameras with a chessboard, four with a ChArUco one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from calibration import Camera, Rig
from calibration.boards import Board, parse_board
from calibration.bundle import BundleState, Freedom, bundle_adjust, rms
from calibration.calibrate import CalibrateOptions, Calibration, calibrate
from calibration.detection import Detection
from calibration.formats import ReadOptions, read_any
from calibration.held_out import held_out_rms
from calibration.rotations import angle_between, matrix_from_vector, transform
from calibration.selection import hold_out
from calibration.views import View, corners_of
from densefit.calibrate import BoardSearch, find_boards
from densefit.calibrate_inputs import BoardRecordings, open_recordings

Row = tuple[str, float, str, str, float | None]
"""What, value, unit, the peer it is compared with, the peer's value."""


def main() -> None:
    """Print a table; with --json leave it as a file too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = speed()
    if options.data is not None:
        rows += opencv_stereo(options.data / "calibration" / "opencv_stereo")
        rows += three_cameras(options.data / "rigs" / "three_cameras" / "chessboard")
        rows += caliscope(options.data / "rigs" / "caliscope4")
    for what, value, unit, peer, peer_value in rows:
        compared = "" if peer_value is None else f"   {peer}: {peer_value:.4g}"
        print(f"{what:64s} {value:9.4g} {unit:4s}{compared}")
    if options.json:
        keys = ("name", "value", "unit", "peer", "peer_value")
        options.json.write_text(
            json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2)
        )


def speed(cameras: int = 8, moments: int = 400) -> list[Row]:
    """Bundle adjustment of everything from a start that is a few centimetres and degrees off."""
    rng, board = np.random.default_rng(0), parse_board("charuco:9x7:30mm:22mm:DICT_5X5_100")
    truth, start, poses = [], [], []
    for i in range(cameras):
        R = matrix_from_vector(np.array([0, np.radians(-60 + 120 * i / (cameras - 1)), 0]))
        truth.append(transform(R, np.array([0, 0, 1.2]) - R @ [0, 0, 1.2]))
        start.append(truth[-1] if i == 0 else shaken(truth[-1], rng, 0.03))
    intrinsics = np.array([1200.0, 1200, 960, 540, -0.1, 0.03, 0, 0, 0])
    K = np.array([[1200.0, 0, 960], [0, 1200, 540], [0, 0, 1]])
    made = [
        Camera(f"c{i}", 1920, 1080, "opencv", K, intrinsics[4:], T) for i, T in enumerate(truth)
    ]
    views = []
    for m in range(moments):
        R = matrix_from_vector(rng.uniform(-0.6, 0.6, 3))
        middle = np.append(rng.uniform(-0.2, 0.2, 2), 1.2 + rng.uniform(-0.2, 0.2))
        poses.append(transform(R, middle - R @ board.points().mean(axis=0)))
        world = board.points() @ R.T + poses[-1][:3, 3]
        for camera in made:
            xy = camera.project(world) + rng.normal(0, 0.2, (len(world), 2))
            seen = ((xy > 0) & (xy < [1920, 1080])).all(axis=1)
            if seen.sum() > 8:
                views.append(View(camera.name, m, Detection(np.flatnonzero(seen), xy[seen], 1.0)))
    corners, _, _ = corners_of(views, board.points(), [c.name for c in made])
    first = intrinsics * np.array([1.03, 1.03, 1, 1, 0, 0, 0, 0, 0])
    state = BundleState(
        np.stack(start),
        ("opencv",) * cameras,
        (first,) * cameras,
        np.stack([shaken(T, rng, 0.02) for T in poses]),
    )
    free = Freedom(np.arange(cameras) > 0, (np.ones(9, bool),) * cameras)

    def step(number: int, error: float) -> None:
        print(f"\rbundle adjustment: step {number}, rms {error:.3f} px", end="", file=sys.stderr)

    begin, cpu = time.perf_counter(), time.process_time()
    result = bundle_adjust(corners, state, free, progress=step)
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    print(file=sys.stderr)
    what = f"bundle adjustment, {cameras} cameras, {moments} views, {len(corners.xy)} corners"
    return [
        (f"{what}: time", wall, "s", "limit", 30.0),
        (f"{what}: CPU time", cpu, "s", "", None),
        (f"{what}: rms", rms(result.residuals), "px", "noise", 0.2 * np.sqrt(2)),
    ]


def shaken(T: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    """A pose that is off by about `size` radians and metres."""
    R = matrix_from_vector(rng.normal(0, size, 3)) @ T[:3, :3]
    return transform(R, T[:3, 3] + rng.normal(0, size, 3))


def found(recordings: BoardRecordings, board: Board) -> list[View]:
    """All views of the board."""
    views, _ = find_boards(recordings, board, BoardSearch(every=1, threads=2))
    return views


def opencv_stereo(folder: Path) -> list[Row]:
    """Against the published parameters on the same corners; lengths in squares."""
    board = parse_board("chessboard:9x6:1m")
    pictures = sorted(folder.glob("left*.jpg")) + sorted(folder.glob("right*.jpg"))
    recordings = open_recordings(pictures)
    views = found(recordings, board)
    ours = calibrate(views, board, recordings.cameras)
    published = read_any(folder / "intrinsics.yml", ReadOptions(metres=1.0, size=(640, 480)))
    mine, _, _ = held_out_rms(views, board, ours.rig)
    theirs, _, _ = held_out_rms(views, board, published)
    return [
        ("opencv_stereo: rms, all corners", mine, "px", "published", theirs),
        ("opencv_stereo: baseline, squares", baseline(ours.rig, "left", "right"), "",
         "published", baseline(published, "left", "right")),
    ]  # fmt: skip


def three_cameras(folder: Path) -> list[Row]:
    """Per-camera and joint rms, and baselines."""
    board = parse_board("chessboard:9x6:10mm")
    recordings = open_recordings([folder])
    result = calibrate(found(recordings, board), board, recordings.cameras)
    rows: list[Row] = [
        (f"three_cameras: {name} alone, rms", fit.rms, "px", "limit", 0.12)
        for name, fit in result.fits.items()
    ]
    rows += [
        (f"three_cameras: {name} in the rig, rms", result.camera_rms(name), "px", "limit", 0.15)
        for name in result.rig.cameras
    ]
    rows.append(("three_cameras: all, rms", result.rms, "px", "limit", 0.15))
    for a, b, stated in (("Left", "Middle", 114), ("Middle", "Right", 114), ("Left", "Right", 213)):
        value = baseline(result.rig, a, b) * 1e3
        rows.append((f"three_cameras: baseline {a}-{b}", value, "mm", "stated", float(stated)))
    return rows


def caliscope(folder: Path) -> list[Row]:
    """Against the stored solution, whose intrinsics are kept."""
    board = parse_board(str(folder / "charuco.toml"))
    recordings = open_recordings([folder / "calibration" / "extrinsic"])
    views, stored = found(recordings, board), read_any(folder / "camera_array.toml")
    options = CalibrateOptions(
        views_per_camera=400,
        views_per_pair=400,
        seconds_per_moment=recordings.seconds_per_moment,
        intrinsics=dict(stored.cameras),
    )
    whole = calibrate(views, board, recordings.cameras, options)
    rows = compared(whole, stored)
    for every in (3, 4, 5):
        used, out = hold_out(views, every)
        part = calibrate(used, board, recordings.cameras, options)
        what = f"caliscope4: held out, every {every}th moment"
        for text, all_views in (("", None), (", offsets fitted", views)):
            mine, _, _ = held_out_rms(out, board, part.rig, all_views=all_views)
            theirs, _, _ = held_out_rms(out, board, stored, all_views=all_views)
            rows.append((what + text, mine, "px", "stored", theirs))
    return rows


def compared(ours: Calibration, stored: Rig) -> list[Row]:
    """Camera centres and orientations after the best similarity."""
    names = list(stored.cameras)
    A = np.array([stored.cameras[n].position for n in names])
    B = np.array([ours.rig.cameras[n].position for n in names])
    pairs = [
        (stored.cameras[n].T_camera_world[:3, :3], ours.rig.cameras[n].T_camera_world[:3, :3])
        for n in names
    ]
    u, _, vt = np.linalg.svd(sum(s.T @ o for s, o in pairs))
    R = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    a, b = A - A.mean(axis=0), (B - B.mean(axis=0)) @ R.T
    scale = (a * b).sum() / (b * b).sum()
    largest = max(np.linalg.norm(x - y) for x in A for y in A)
    rows: list[Row] = [
        ("caliscope4: rms, all moments", ours.rms, "px", "", None),
        ("caliscope4: scale against stored", float(scale), "", "", None),
    ]
    for i, name in enumerate(names):
        share = float(np.linalg.norm(scale * b[i] - a[i]) / largest * 100)
        turn = float(np.degrees(angle_between(pairs[i][0] @ R, pairs[i][1])))
        rows.append((f"caliscope4: centre of {name}", share, "%", "limit", 1.0))
        rows.append((f"caliscope4: orientation of {name}", turn, "deg", "limit", 0.5))
    return rows


def baseline(rig: Rig, a: str, b: str) -> float:
    """m between two cameras."""
    return float(np.linalg.norm(rig.cameras[a].position - rig.cameras[b].position))


if __name__ == "__main__":
    main()
