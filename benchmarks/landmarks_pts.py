"""Error of the 68 iBUG points on photos with .pts annotation.

    python benchmarks/landmarks_pts.py FOLDER [--montage FILE.png] [--json FILE]

FOLDER holds pictures and, for each, a .pts file of the same stem (68 points in iBUG order, the
first pixel's centre at (1, 1)). The predicted face that overlaps the annotation most is taken.
Errors are normalised by the distance between the outer corners of the annotated eyes; no map from
our points to the annotators' habits is fitted. A picture in which no face is
found counts as missed and is named.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densefit.capture.photos import pictures_in, read_photo
from densefit.head import load_head
from densefit.landmarks.overlay import draw_landmarks
from densefit.landmarks.tracker import FaceTracker, Sighting, load_tracker
from densefit.landmarks.weights import CLOSEUP_WEIGHTS, LANDMARK_WEIGHTS

INNER = np.arange(17, 68)


@dataclass(frozen=True)
class Score:
    """One picture: mean errors in percent of the eye distance (NaN where no face was found)."""

    name: str
    inner: float
    all68: float


def read_pts(path: Path) -> np.ndarray:
    """(68, 2) float64 px, pixel centres at integers (the files count from 1)."""
    text = path.read_text(encoding="utf-8", errors="replace")
    body = text[text.index("{") + 1 : text.index("}")]
    return np.array(body.split(), float).reshape(-1, 2) - 1


def nearest_face(
    tracker: FaceTracker, picture: np.ndarray, truth: np.ndarray, ibug68: np.ndarray
) -> Sighting | None:
    """The found face whose 68 points' box overlaps the annotation's most."""
    best, most = None, 0.0
    for face in tracker.find_all(picture):
        overlap = _overlap(face.xy[ibug68], truth)
        if overlap > most:
            best, most = face, overlap
    return best


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two point sets' boxes."""
    low, high = np.maximum(a.min(0), b.min(0)), np.minimum(a.max(0), b.max(0))
    shared = np.prod(np.maximum(high - low, 0))
    return float(shared / (np.prod(np.ptp(a, axis=0)) + np.prod(np.ptp(b, axis=0)) - shared))


def evaluate(folder: Path, tracker: FaceTracker) -> tuple[list[Score], list[np.ndarray]]:
    """Scores of all annotated pictures, and the pictures with landmarks drawn."""
    head = load_head()
    scores, drawn = [], []
    for file in pictures_in(folder):
        pts = file.with_suffix(".pts")
        if not pts.exists():
            continue
        truth, picture = read_pts(pts), read_photo(file)
        face = nearest_face(tracker, picture, truth, head.ibug68)
        canvas = np.ascontiguousarray(picture).copy()
        if face is None:
            scores.append(Score(file.name, np.nan, np.nan))
        else:
            eyes = np.linalg.norm(truth[36] - truth[45])
            error = np.linalg.norm(face.xy[head.ibug68] - truth, axis=1) / eyes * 100
            scores.append(Score(file.name, float(error[INNER].mean()), float(error.mean())))
            draw_landmarks(canvas, face.xy, face.sigma, float(face.roi[2]))
        drawn.append(_close_up(canvas, truth))
    return scores, drawn


def _close_up(picture: np.ndarray, truth: np.ndarray, size: int = 320) -> np.ndarray:
    """The annotated face and its surroundings, with the annotation as white rings."""
    import cv2

    for x, y in truth:
        cv2.circle(picture, (round(x), round(y)), 2, (255, 255, 255), 1)
    centre, reach = truth.mean(0), np.ptp(truth, axis=0).max() * 0.85
    x0, y0 = np.maximum(centre - reach, 0).astype(int)
    x1, y1 = (centre + reach).astype(int)
    return cv2.resize(picture[y0:y1, x0:x1], (size, size), interpolation=cv2.INTER_AREA)


def write_montage(pictures: list[np.ndarray], path: Path, columns: int = 6) -> None:
    """One PNG with all close-ups."""
    import cv2

    blank = np.zeros_like(pictures[0])
    pictures = pictures + [blank] * (-len(pictures) % columns)
    rows = [np.hstack(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """--quality, --weights and --closeup-weights."""
    parser.add_argument("--quality", choices=("fast", "high"), default="high")
    parser.add_argument("--weights", type=Path, default=LANDMARK_WEIGHTS)
    parser.add_argument("--closeup-weights", type=Path, default=CLOSEUP_WEIGHTS)


def closeup_file(options: argparse.Namespace) -> Path | None:
    """The close-up's weights unless it is done without."""
    return options.closeup_weights if options.quality == "high" else None


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    add_network_options(parser)
    parser.add_argument("--montage", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tracker = load_tracker(
        load_head(), weights=options.weights, closeup_weights=closeup_file(options)
    )
    scores, drawn = evaluate(options.folder, tracker)
    if not scores:
        raise SystemExit(f"{options.folder}: no pictures with .pts files")
    for score in scores:
        print(f"{score.name:24s} inner {score.inner:6.2f} %   all 68 {score.all68:6.2f} %")
    inner = float(np.nanmean([s.inner for s in scores]))
    all68 = float(np.nanmean([s.all68 for s in scores]))
    missed = [s.name for s in scores if np.isnan(s.inner)]
    print(f"{len(scores)} pictures, {len(missed)} missed {' '.join(missed)}")
    print(f"mean: 51 inner points {inner:.2f} %, all 68 {all68:.2f} % of the outer eye distance")
    if options.montage:
        write_montage(drawn, options.montage)
    if options.json:
        rows = [("inner51", inner, "percent"), ("all68", all68, "percent")]
        rows.append(("missed", float(len(missed)), "pictures"))
        table = [
            {"name": f"ibug {n}", "value": v, "unit": u, "peer": None, "peer_value": None}
            for n, v, u in rows
        ]
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
