"""Landmarks on real faces, beside MediaPipe Face Mesh in one run.

    python benchmarks/landmarks.py DATA [--mediapipe PYTHON | --make-mediapipe DIR]
        [--quality fast|high] [--json FILE] [--curves FILE.png]

DATA holds photos/ibug68 (pictures with .pts of 68 points), photos/aflw2000 (pictures with .mat of
68 3D points and the head's pose) and video/*.mp4 (talking heads). Printed are

- errors on the photos, in per cent of the distance between the outer corners of the eyes (in 3D
  where the annotation has depth), by yaw, with the ratio to MediaPipe's and its 90 % interval over
  bootstrap samples of photos. Annotators' habits are mapped for both by one rule: each annotated
  point is a convex combination of the 12 dense points nearest to it, the same weights for x and y,
  learnt on the photos of all other persons. (A picture's person is its name up to the last `_`.)
- jitter: the first frame of each clip as a still, with fresh noise (sigma 4) in 40 frames, encoded
  as H.264; root mean square motion of the 68 mapped points about their mean.
- valid frames of the clips, and how far the lid gap over eye width agrees between the two.
- following: how many frames still count as valid once the face has been painted over, how many
  after a cut to the next clip are off by more than 5 % of the eye distance (or not found), and how
  many are on a person beside when the followed one is hidden for a while.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from landmark_maps import apply_map, learn_map
from landmarks_films import following, videos
from landmarks_pts import add_network_options, closeup_file, nearest_face, read_pts
from mediapipe_peer import add_options, peer_python, run_mediapipe

from densefit.capture.photos import read_photo
from densefit.head import HeadModel, load_head
from densefit.landmarks.tracker import FaceTracker, load_tracker

YAW_BINS = ((0, 20), (20, 45), (45, 100), (20, 100))
INNER = np.arange(17, 68)


@dataclass(frozen=True)
class Photo:
    """An annotated picture: truth (68, 2) px, scale px (outer eye corners), yaw degrees."""

    name: str
    group: str
    person: str
    picture: np.ndarray
    truth: np.ndarray
    scale: float
    yaw: float


def read_photos(data: Path, head: HeadModel) -> list[Photo]:
    """All annotated photos."""
    photos = []
    for file in sorted((data / "photos").glob("*/*")):
        group = file.parent.name
        if file.suffix not in (".jpg", ".png", ".ppm"):
            continue
        person = f"{group}/{file.stem.rsplit('_', 1)[0]}"
        picture = read_photo(file)
        if file.with_suffix(".pts").exists():
            truth = read_pts(file.with_suffix(".pts"))
            scale = float(np.linalg.norm(truth[36] - truth[45]))
            yaw = _yaw_of(truth, picture, head)
        elif file.with_suffix(".mat").exists():
            truth, scale, yaw = _read_mat(file.with_suffix(".mat"))
        else:
            continue
        photos.append(Photo(file.name, group, person, picture, truth, scale, yaw))
    return photos


def _read_mat(path: Path) -> tuple[np.ndarray, float, float]:
    """AFLW2000-3D: 68 points with depth (pixels count from 1) and Euler angles."""
    from scipy.io import loadmat

    mat = loadmat(path)
    points = mat["pt3d_68"].T.astype(float)
    yaw = float(np.degrees(mat["Pose_Para"][0, 1]))
    return points[:, :2] - 1, float(np.linalg.norm(points[36] - points[45])), yaw


def _yaw_of(truth: np.ndarray, picture: np.ndarray, head: HeadModel) -> float:
    """Yaw from the template's pose in front of a long lens (perspective-n-point)."""
    import cv2

    template = head.landmarks(head.template)[head.ibug68][INNER].astype(float)
    height, width = picture.shape[:2]
    focal = 2.0 * max(height, width)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    found, rotation, _ = cv2.solvePnP(template, truth[INNER], K, None, flags=cv2.SOLVEPNP_SQPNP)
    forward = cv2.Rodrigues(rotation)[0] @ [0, 0, 1]
    return float(np.degrees(np.arctan2(forward[0], -forward[2])))


def densefit_dense(
    photos: list[Photo], tracker: FaceTracker, head: HeadModel
) -> tuple[np.ndarray, np.ndarray]:
    """(P, 703, 2) px and sigma (P, 703) px; NaN where no face overlaps the annotation."""
    out, sigma = np.full((len(photos), 703, 2), np.nan), np.full((len(photos), 703), np.nan)
    for i, photo in enumerate(photos):
        face = nearest_face(tracker, photo.picture, photo.truth, head.ibug68)
        if face is not None:
            out[i], sigma[i] = face.xy, face.sigma
    return out, sigma


def mediapipe_dense(photos: list[Photo], python: str) -> tuple[np.ndarray, int]:
    """(P, 478, 2) px and how many faces were only found in a crop.

    A face that its detector misses in the whole picture is given once more, in a square three
    times the annotation's size, where the detector is at its best.
    """
    whole, _ = run_mediapipe(
        python, [p.picture[None] for p in photos], follow=False, faces=8, confidence=0.2
    )
    out = np.stack([_best(a[0], p.truth) for a, p in zip(whole, photos, strict=True)])
    missed = [i for i in range(len(photos)) if np.isnan(out[i]).any()]
    corners, crops = [], []
    for i in missed:
        low, high = photos[i].truth.min(0), photos[i].truth.max(0)
        side = 3 * (high - low).max()
        x, y = np.maximum((low + high - side) / 2, 0).astype(int)
        corners.append((x, y))
        crop = photos[i].picture[y : y + int(side), x : x + int(side)]
        crops.append(np.ascontiguousarray(crop)[None])
    if missed:
        again, _ = run_mediapipe(python, crops, follow=False, faces=8, confidence=0.1)
        for i, corner, answer in zip(missed, corners, again, strict=True):
            out[i] = _best(answer[0] + np.array(corner), photos[i].truth)
    return out, len(missed)


def _best(faces: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of (faces, 478, 2), the one whose box overlaps the annotation's most."""
    best, most = np.full(faces.shape[1:], np.nan), 0.0
    for face in faces:
        if np.isnan(face).any():
            continue
        low = np.maximum(face.min(0), truth.min(0))
        high = np.minimum(face.max(0), truth.max(0))
        overlap = float(np.prod(np.maximum(high - low, 0)))
        if overlap > most:
            best, most = face, overlap
    return best


def _annotation(photos: list[Photo]) -> tuple[np.ndarray, np.ndarray]:
    """Annotated points (P, 68, 2) px and scales (P,) px."""
    return np.stack([p.truth for p in photos]), np.array([p.scale for p in photos])


def mapped_errors(dense: np.ndarray, photos: list[Photo]) -> np.ndarray:
    """(P, 68) per cent of the scale; the map is learnt on the other persons' photos."""
    errors = np.full((len(photos), 68), np.nan)
    truth, scale = _annotation(photos)
    usable = ~np.isnan(dense).any((1, 2))
    for i, photo in enumerate(photos):
        others = [k for k, p in enumerate(photos) if usable[k] and p.person != photo.person]
        mapping = learn_map(dense[others], truth[others], scale[others])
        points = apply_map(dense[i], mapping)
        errors[i] = np.linalg.norm(points - photo.truth, axis=1) / photo.scale * 100
    return errors


def ratio_interval(ours: np.ndarray, peer: np.ndarray) -> tuple[float, float, float]:
    """Ratio of mean errors and its 90 % bootstrap interval over photos."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(ours), (4000, len(ours)))
    ratios = ours[picks].mean(1) / peer[picks].mean(1)
    low, high = np.quantile(ratios, [0.05, 0.95])
    return float(ours.mean() / peer.mean()), float(low), float(high)


def print_errors(
    photos: list[Photo], raw: np.ndarray, ours: np.ndarray, peer: np.ndarray | None
) -> list[dict[str, object]]:
    """The table by group and yaw."""
    rows: list[dict[str, object]] = []
    yaw = np.abs([p.yaw for p in photos])
    parts = [(f"{g}", np.array([p.group == g for p in photos])) for g in ("ibug68", "aflw2000")]
    parts += [(f"|yaw| {a} to {b}", (yaw >= a) & (yaw < b)) for a, b in YAW_BINS]
    for name, chosen in parts:
        if not chosen.any():
            continue
        line = f"{name:16s} {chosen.sum():3d} photos"
        for label, points in (("inner 51", INNER), ("all 68", np.arange(68))):
            mine = ours[chosen][:, points].mean(1)
            value = float(np.nanmean(mine))
            line += f"  {label}: {value:5.2f} % (unmapped {np.nanmean(raw[chosen][:, points]):.2f})"
            row = {"name": f"{name}, {label}", "value": value, "unit": "%", "peer": None}
            if peer is not None:
                theirs = peer[chosen][:, points].mean(1)
                both = ~np.isnan(mine) & ~np.isnan(theirs)
                ratio, low, high = ratio_interval(mine[both], theirs[both])
                line += (
                    f", MediaPipe {theirs[both].mean():5.2f}, {ratio:.2f} [{low:.2f} {high:.2f}]"
                )
                row |= {"peer": "MediaPipe", "peer_value": float(theirs[both].mean())}
            rows.append(row)
        print(line)
    return rows


def print_doubt(errors: np.ndarray, sigma: np.ndarray) -> list[dict[str, object]]:
    """Whether sigma (P, 68) rises with the errors (P, 68), per cent both: rank correlations."""
    from scipy.stats import spearmanr

    found = ~np.isnan(errors).any(1)
    errors, sigma = errors[found], sigma[found]
    photos = float(spearmanr(errors.mean(1), sigma.mean(1)).statistic)
    points = float(spearmanr(errors, sigma, axis=None).statistic)
    worst = errors >= np.quantile(errors, 0.9)
    rise = float(np.median(sigma[worst]) / np.median(sigma[~worst]))
    print(
        f"sigma and error: rank correlation over photos {photos:.2f}, over points {points:.2f};"
        f" sigma of the worst tenth of points {rise:.2f} times that of the others"
    )
    named = {"over photos": photos, "over points": points, "worst tenth over others": rise}
    return [{"name": f"sigma, {n}", "value": v, "unit": "", "peer": None} for n, v in named.items()]


def main() -> None:
    """Print the tables."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    add_network_options(parser)
    parser.add_argument("--photos-only", action="store_true")
    parser.add_argument("--json", type=Path)
    add_options(parser)
    options = parser.parse_args()
    head = load_head()
    tracker = load_tracker(head, weights=options.weights, closeup_weights=closeup_file(options))
    python = peer_python(options)
    photos = read_photos(options.data, head)
    dense, sigma = densefit_dense(photos, tracker, head)
    missed = [p.name for p, d in zip(photos, dense, strict=True) if np.isnan(d).any()]
    print(f"{len(photos)} photos; densefit misses {len(missed)} {' '.join(missed)}")
    truth, scale = _annotation(photos)
    raw = np.linalg.norm(dense[:, head.ibug68] - truth, axis=-1) / scale[:, None] * 100
    peer_errors, maps = None, [learn_map(*_found(dense, photos))]
    if python is not None:
        peer, retried = mediapipe_dense(photos, python)
        lost = int(np.isnan(peer).any((1, 2)).sum())
        print(
            f"MediaPipe finds {len(photos) - retried} in the pictures, misses {lost} in crops too"
        )
        peer_errors = mapped_errors(peer, photos)
        maps.append(learn_map(*_found(peer, photos)))
    mapped = mapped_errors(dense, photos)
    rows = print_errors(photos, raw, mapped, peer_errors)
    rows += print_doubt(mapped, sigma[:, head.ibug68] / scale[:, None] * 100)
    if not options.photos_only:
        with tempfile.TemporaryDirectory() as folder:
            rows += videos(options.data, head, tracker, python, Path(folder), tuple(maps))
        rows += following(options.data, head, tracker)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def _found(dense: np.ndarray, photos: list[Photo]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense points, annotation and scale of the photos in which a face was found."""
    keep = ~np.isnan(dense).any((1, 2))
    truth, scale = _annotation(photos)
    return dense[keep], truth[keep], scale[keep]


if __name__ == "__main__":
    main()
