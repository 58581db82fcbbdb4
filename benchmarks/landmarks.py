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
- following: how many frames still count as valid once the face has been painted over, and how many
  after a cut to the next clip are off by more than 5 % of the eye distance (or not found).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from landmarks_pts import add_network_options, closeup_file, nearest_face, read_pts
from mediapipe_peer import add_options, peer_python, run_mediapipe

from densefit.capture import VideoWriter, open_frames, open_source
from densefit.capture.photos import read_photo
from densefit.head import HeadModel, load_head
from densefit.landmarks.look import Place
from densefit.landmarks.tracker import FaceTracker, load_tracker

NEAREST = 12
YAW_BINS = ((0, 20), (20, 45), (45, 100))
INNER = np.arange(17, 68)
# MediaPipe's mesh: upper lid, lower lid, outer and inner corner of the right eye, then the left.
_PEER_LIDS = ((159, 145, 33, 133), (386, 374, 263, 362))
_IBUG_LIDS = (((37, 38), (41, 40), 36, 39), ((43, 44), (47, 46), 45, 42))


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


def densefit_dense(photos: list[Photo], tracker: FaceTracker, head: HeadModel) -> np.ndarray:
    """(P, 703, 2) px; NaN where no face overlaps the annotation."""
    out = np.full((len(photos), 703, 2), np.nan)
    for i, photo in enumerate(photos):
        face = nearest_face(tracker, photo.picture, photo.truth, head.ibug68)
        if face is not None:
            out[i] = face.xy
    return out


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


def learn_map(dense: np.ndarray, photos: list[Photo]) -> tuple[np.ndarray, np.ndarray]:
    """Indices (68, 12) and convex weights (68, 12) of dense points for each annotated one.

    dense: (P, N, 2). Least squares over the photos, in units of each one's scale.
    """
    from scipy.optimize import nnls

    truth = np.stack([p.truth for p in photos])
    scale = np.array([p.scale for p in photos])
    apart = np.linalg.norm(dense[:, None] - truth[:, :, None], axis=-1) / scale[:, None, None]
    nearest = np.argsort(apart.mean(0), axis=1)[:, :NEAREST]
    weights = np.zeros((68, NEAREST))
    for k in range(68):
        columns = dense[:, nearest[k]] - truth[:, k, None]
        system = (columns / scale[:, None, None]).transpose(0, 2, 1).reshape(-1, NEAREST)
        # A heavy last row makes the weights sum to one.
        system = np.concatenate([system, np.full((1, NEAREST), 1e3)])
        target = np.append(np.zeros(len(system) - 1), 1e3)
        weights[k] = nnls(system, target)[0]
    return nearest, weights / weights.sum(1, keepdims=True)


def apply_map(dense: np.ndarray, mapping: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Dense points (..., N, 2) -> the 68 annotated ones."""
    nearest, weights = mapping
    return (dense[..., nearest, :] * weights[..., None]).sum(-2)


def mapped_errors(dense: np.ndarray, photos: list[Photo]) -> np.ndarray:
    """(P, 68) per cent of the scale; the map is learnt on the other persons' photos."""
    errors = np.full((len(photos), 68), np.nan)
    usable = ~np.isnan(dense).any((1, 2))
    for i, photo in enumerate(photos):
        others = [k for k, p in enumerate(photos) if usable[k] and p.person != photo.person]
        mapping = learn_map(dense[others], [photos[k] for k in others])
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


def still_videos(data: Path, folder: Path) -> list[np.ndarray]:
    """Noisy stills of each clip's first frame, through a codec and back."""
    rng = np.random.default_rng(1)
    stills = []
    for clip in sorted((data / "video").glob("*.mp4")):
        first = next(iter(open_frames(open_source("c", clip), end="1"))).image
        path = folder / f"{clip.stem}_still.mp4"
        with VideoWriter(path, 30, first.shape[1], first.shape[0]) as writer:
            for _ in range(40):
                noisy = first + rng.normal(0, 4, first.shape)
                writer.write(np.clip(noisy + 0.5, 0, 255).astype(np.uint8))
        stills.append(np.stack([f.image for f in open_frames(open_source("c", path))]))
    return stills


def follow_clip(tracker: FaceTracker, frames: np.ndarray) -> np.ndarray:
    """(T, 703, 2) px as `predict` follows a face; NaN where it is not found."""
    out = np.full((len(frames), 703, 2), np.nan)
    last = None
    for i in range(0, len(frames), 4):
        block = list(frames[i : i + 4])
        seen = (
            tracker.find(block, True)
            if last is None
            else tracker.follow(block, [last] * len(block))
        )
        for k, face in enumerate(seen):
            if face is not None:
                out[i + k], last = face.xy, face.place
    return out


def motion(points: np.ndarray) -> float:
    """Root mean square distance px of points (T, K, 2) from their mean over time."""
    return float(np.sqrt(((points - points.mean(0)) ** 2).sum(-1).mean()))


def lid_gap(points: np.ndarray, lids: tuple) -> np.ndarray:
    """(T,) mean over both eyes of lid gap over eye width."""
    gaps = []
    for upper, lower, outer, inner in lids:
        a, b = points[:, np.atleast_1d(upper)].mean(1), points[:, np.atleast_1d(lower)].mean(1)
        width = np.linalg.norm(points[:, outer] - points[:, inner], axis=1)
        gaps.append(np.linalg.norm(a - b, axis=1) / width)
    return np.mean(gaps, 0)


def videos(
    data: Path, head: HeadModel, tracker: FaceTracker, python: str | None, folder: Path,
    maps: tuple,
) -> list[dict[str, object]]:  # fmt: skip
    """Jitter of stills; valid frames and lid gap of clips."""
    rows: list[dict[str, object]] = []
    stills = still_videos(data, folder)
    mine = [motion(apply_map(follow_clip(tracker, s), maps[0])) for s in stills]
    line = f"jitter of a still: {np.mean(mine):.3f} px"
    row: dict[str, object] = {"name": "jitter", "value": float(np.mean(mine)), "unit": "px"}
    if python is not None:
        answers, _ = run_mediapipe(python, stills, follow=True)
        theirs = [motion(apply_map(a[:, 0], maps[1])) for a in answers]
        line += f", MediaPipe {np.nanmean(theirs):.3f} px; each " + " ".join(
            f"{a:.2f}/{b:.2f}" for a, b in zip(mine, theirs, strict=True)
        )
        row |= {"peer": "MediaPipe", "peer_value": float(np.nanmean(theirs))}
    print(line)
    rows.append(row)
    for clip in sorted((data / "video").glob("*.mp4")):
        frames = np.stack([f.image for f in open_frames(open_source("c", clip), end="300")])
        seen = follow_clip(tracker, frames)
        valid = float((~np.isnan(seen[:, 0, 0])).mean())
        gap = lid_gap(seen[:, head.ibug68], _IBUG_LIDS)
        low, high = np.nanquantile(gap, [0.02, 0.9])
        line = f"{clip.stem:20s} valid {valid:6.1%}  lid gap {low:.2f} to {high:.2f}"
        row = {"name": f"{clip.stem} valid", "value": valid, "unit": "share"}
        if python is not None:
            answer = run_mediapipe(python, [frames], follow=True)[0][0][:, 0]
            peer_gap = lid_gap(answer, _PEER_LIDS)
            found = float((~np.isnan(answer[:, 0, 0])).mean())
            both = ~np.isnan(gap) & ~np.isnan(peer_gap)
            agree = float(np.corrcoef(gap[both], peer_gap[both])[0, 1])
            a, b = np.nanquantile(peer_gap, [0.02, 0.9])
            line += (
                f"   MediaPipe valid {found:6.1%} gap {a:.2f} to {b:.2f}, correlation {agree:.2f}"
            )
            row |= {"peer": "MediaPipe", "peer_value": found}
        print(line)
        rows.append(row)
    return rows


def following(data: Path, head: HeadModel, tracker: FaceTracker) -> list[dict[str, object]]:
    """Frames until a loss is noticed, and until a cut is."""
    openings = []
    for clip in sorted((data / "video").glob("*.mp4")):
        frames = [f.image for f in open_frames(open_source("c", clip), end="12")]
        openings.append((clip.stem, frames, follow_clip(tracker, np.stack(frames))))
    late, astray = [], []
    for i, (_, frames, seen) in enumerate(openings):
        painted = follow_clip(tracker, np.stack(frames[:8] + _painted(frames, seen[7])))
        late.append(int((~np.isnan(painted[8:, 0, 0])).sum()))
        _, other, alone = openings[(i + 1) % len(openings)]
        last, wrong = Place(seen[5]), 0
        for k, picture in enumerate(other[:6]):
            face = tracker.follow([picture], [last])[0]
            if face is None:
                wrong += 1
                continue
            last = face.place
            a, b = face.xy[head.ibug68], alone[k][head.ibug68]
            apart = np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(b[36] - b[45])
            wrong += bool(apart > 0.05)
        astray.append(wrong)
    print(f"frames still valid after the face was painted over: {late}")
    print(f"frames astray after a cut: {astray}")
    return [
        {"name": "frames valid after painting over", "value": float(max(late)), "unit": "frames"},
        {"name": "frames astray after a cut", "value": float(max(astray)), "unit": "frames"},
    ]


def _painted(frames: list[np.ndarray], face: np.ndarray) -> list[np.ndarray]:
    """Frames with a smooth ellipse over where the face was, in the picture's mean colour."""
    low, high = face.min(0), face.max(0)
    centre, half = (low + high) / 2, (high - low) / 2
    out = []
    for frame in frames[8:]:
        y, x = np.mgrid[: frame.shape[0], : frame.shape[1]]
        inside = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 < 1
        covered = frame.copy()
        covered[inside] = frame.mean((0, 1))
        out.append(covered)
    return out


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
    dense = densefit_dense(photos, tracker, head)
    missed = [p.name for p, d in zip(photos, dense, strict=True) if np.isnan(d).any()]
    print(f"{len(photos)} photos; densefit misses {len(missed)} {' '.join(missed)}")
    scale = np.array([p.scale for p in photos])[:, None]
    truth = np.stack([p.truth for p in photos])
    raw = np.linalg.norm(dense[:, head.ibug68] - truth, axis=-1) / scale * 100
    peer_errors, maps = None, [learn_map(*_found(dense, photos))]
    if python is not None:
        peer, retried = mediapipe_dense(photos, python)
        lost = int(np.isnan(peer).any((1, 2)).sum())
        print(
            f"MediaPipe finds {len(photos) - retried} in the pictures, misses {lost} in crops too"
        )
        peer_errors = mapped_errors(peer, photos)
        maps.append(learn_map(*_found(peer, photos)))
    rows = print_errors(photos, raw, mapped_errors(dense, photos), peer_errors)
    if not options.photos_only:
        with tempfile.TemporaryDirectory() as folder:
            rows += videos(options.data, head, tracker, python, Path(folder), tuple(maps))
        rows += following(options.data, head, tracker)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def _found(dense: np.ndarray, photos: list[Photo]) -> tuple[np.ndarray, list[Photo]]:
    """The photos in which a face was found."""
    keep = [i for i in range(len(photos)) if not np.isnan(dense[i]).any()]
    return dense[keep], [photos[i] for i in keep]


if __name__ == "__main__":
    main()
