"""Faces found, and none where there is none: `python benchmarks/finding.py DATA [--json FILE]`.

DATA holds photos/ibug68 and photos/aflw2000 (people) and hdri/*.hdr (panoramas without any). Photos
are shown as they are and shrunk, so that the face, from its annotated chin to the brows, has 100,
60 and 40 pixels; every panorama is seen in six directions at three exposures. Printed are photos in
which no face was found, and views in which one was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from landmarks_pts import read_pts

from densefit.capture.photos import pictures_in, read_photo
from densefit.head import load_head
from densefit.landmarks.predictor import PredictOptions, make_tracker
from densefit.landmarks.tracker import FaceTracker

FACES_PX = (None, 100, 60, 40)
"""Height of the face; None: as it is."""
DIRECTIONS = ((0, 0), (90, 0), (180, 0), (270, 0), (45, -25), (225, 25))
"""Yaw and pitch, degrees."""
EXPOSURES = (0.5, 1.0, 2.0)
"""Of the median, over middle grey."""
SIDE, FIELD = 512, 80.0
"""Views: pixels a side, degrees."""


def people(data: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, picture (H, W, 3) uint8 RGB and annotated points (68, 2) px."""
    for path in pictures_in(data / "photos/ibug68"):
        yield path.name, read_photo(path), read_pts(path.with_suffix(".pts"))
    for path in pictures_in(data / "photos/aflw2000"):
        points = scipy.io.loadmat(path.with_suffix(".mat"))["pt3d_68"][:2].T
        yield path.name, read_photo(path), points


def shrunk(picture: np.ndarray, points: np.ndarray, face: int | None) -> np.ndarray:
    """The picture with a face of so many pixels."""
    scale = 1.0 if face is None else face / np.ptp(points[:, 1])
    if scale >= 1:
        return picture
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def views(panorama: Path) -> Iterator[np.ndarray]:
    """Pictures (SIDE, SIDE, 3) uint8 RGB of a panorama."""
    sphere = cv2.imread(str(panorama), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(np.float32)
    height, width = sphere.shape[:2]
    at = np.tan(np.deg2rad(FIELD / 2)) * ((np.arange(SIDE) + 0.5) * 2 / SIDE - 1)
    x, y = np.meshgrid(at, at)
    for yaw, pitch in np.deg2rad(DIRECTIONS):
        down, ahead = y * np.cos(pitch) + np.sin(pitch), np.cos(pitch) - y * np.sin(pitch)
        longitude = np.arctan2(x, ahead) + yaw
        latitude = np.arctan2(down, np.hypot(x, ahead))
        u = (longitude / (2 * np.pi) % 1) * width - 0.5
        v = (latitude / np.pi + 0.5) * height - 0.5
        seen = cv2.remap(
            sphere, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )  # fmt: skip
        for exposure in EXPOSURES:
            light = 0.18 * exposure * seen / max(float(np.median(seen)), 1e-6)
            yield (255 * light.clip(0, 1) ** (1 / 2.2)).astype(np.uint8)


def measure(data: Path, tracker: FaceTracker) -> list[tuple[str, int, int]]:
    """What, how many of how many."""
    rows = []
    shown = list(people(data))
    for face in FACES_PX:
        missed = []
        for name, picture, points in shown:
            if tracker.find([shrunk(picture, points, face)])[0] is None:
                missed.append(name)
        what = "as they are" if face is None else f"of {face} px"
        print(f"faces {what:14s} missed {len(missed):3d} of {len(shown)} {' '.join(missed)}")
        rows.append((f"faces {what}, missed", len(missed), len(shown)))
    found = seen = 0
    for panorama in sorted((data / "hdri").glob("*.hdr")):
        for i, view in enumerate(views(panorama)):
            seen += 1
            if tracker.find([view])[0] is not None:
                found += 1
                print(f"a face in {panorama.name}, view {i}")
    print(f"views without people   found  {found:3d} of {seen}")
    return [*rows, ("views without people, found", found, seen)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, help="other networks than the shipped ones")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    options = PredictOptions(weights=chosen.weights)
    rows = measure(chosen.data, make_tracker(load_head(), options))
    if chosen.json:
        table = [
            {"name": name, "value": value, "unit": f"of {count}", "peer": None, "peer_value": None}
            for name, value, count in rows
        ]
        chosen.json.write_text(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
