"""Landmarks over time, for `landmarks.py`: jitter, valid frames, losses, cuts, two people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from landmark_maps import apply_map
from mediapipe_peer import run_mediapipe

from densefit.capture import VideoWriter, open_frames, open_source
from densefit.head import HeadModel
from densefit.landmarks.choice import FaceChoice
from densefit.landmarks.follow import Trail
from densefit.landmarks.look import Place
from densefit.landmarks.predictor import block_frames
from densefit.landmarks.tracker import FaceTracker, TrackOptions

# MediaPipe's mesh: upper lid, lower lid, outer and inner corner of the right eye, then the left.
_PEER_LIDS = ((159, 145, 33, 133), (386, 374, 263, 362))
_IBUG_LIDS = (((37, 38), (41, 40), 36, 39), ((43, 44), (47, 46), 45, 42))


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
    trail = Trail()
    size = block_frames(1)
    for i in range(0, len(frames), size):
        seen, trails = tracker.follow({"c": list(frames[i : i + size])}, {"c": trail})
        trail = trails["c"]
        for k, face in enumerate(seen["c"]):
            if face is not None:
                out[i + k] = face.xy
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
        trail, wrong = Trail(Place(seen[5]), picture=frames[5]), 0
        for k, picture in enumerate(other[:6]):
            faces, trails = tracker.follow({"c": [picture]}, {"c": trail})
            face, trail = faces["c"][0], trails["c"]
            if face is None:
                wrong += 1
                continue
            a, b = face.xy[head.ibug68], alone[k][head.ibug68]
            apart = np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(b[36] - b[45])
            wrong += bool(apart > 0.05)
        astray.append(wrong)
    taken = [_frames_on_bystander(tracker, openings, i) for i in range(len(openings))]
    print(f"frames still valid after the face was painted over: {late}")
    print(f"frames astray after a cut: {astray}")
    print(f"frames on the person beside, when the followed one hides: {taken}")
    return [
        {"name": "frames on a bystander", "value": float(max(taken)), "unit": "frames"},
        {"name": "frames valid after painting over", "value": float(max(late)), "unit": "frames"},
        {"name": "frames astray after a cut", "value": float(max(astray)), "unit": "frames"},
    ]


def _frames_on_bystander(tracker: FaceTracker, openings: list, i: int) -> int:
    """Two clips side by side; the left one's face is covered for some frames, then there again."""
    left, right = openings[i], openings[(i + 1) % len(openings)]
    face = left[2][7]
    shown = left[1][:8] + 2 * _painted(left[1], face) + left[1][:8]
    height = max(left[1][0].shape[0], right[1][0].shape[0])

    def tall(picture: np.ndarray) -> np.ndarray:
        return np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0)), mode="edge")

    films = [np.hstack([tall(a), tall(right[1][k % 12])]) for k, a in enumerate(shown)]
    options = TrackOptions(face=FaceChoice("left"))
    chosen = FaceTracker(tracker.face, tracker.finder, tracker.closeup, options)
    seen = follow_clip(chosen, np.stack(films)).mean(1)
    return int((seen[:, 0] > left[1][0].shape[1]).sum() + np.isnan(seen[-4:, 0]).sum())


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
