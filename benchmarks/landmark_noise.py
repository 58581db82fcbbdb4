"""How landmark errors go together, measured on renders that no network was trained on.

    python benchmarks/landmark_noise.py SHARDS [--count 3060] [--rank 96] [--people PEOPLE]
        [--write FILE.npz]

SHARDS is a folder of renders (`densefit synth --format shards`) of other seeds than the networks'
training. Each is put on a background and shown to the whole pipeline (--quality high). Errors over
sigma are explained by displacements of the landmarks in the head frame, d = G z with z ~ N(0, I),
seen by the picture's camera, and a rest of each landmark's own: a factor analysis by expectation
maximisation (Rubin and Thayer, Psychometrika 1982), in which each head's pose tells how a
displacement shows. One picture in five is kept aside to see that the factors are no chance.
PEOPLE is what benchmarks/people_takes.py renders, several moments of each person: how much of z all
of them share is the correlation of z between two moments, seen by the same camera.
--write stores what the fit's bias and deviations rest on (densefit/fit/noise.npz), mean variance
one. The shipped file is of 1,536 renders of own heads and 1,536 of ICT-FaceKit's (seeds 401, 402).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from densefit.capture import load_take
from densefit.files import read_npz, write_npz
from densefit.fit.landmark_model import landmark_model
from densefit.head import load_head
from densefit.head.model import HeadModel
from densefit.head.rotation import rotation_matrix
from densefit.landmarks.files import read_landmarks
from densefit.landmarks.look import Place
from densefit.landmarks.predictor import PredictOptions, make_tracker, predict
from densefit.train.backgrounds import background_bank

CLIP = 5.0
"""Standard deviations: what is farther off the robust loss leaves out of the fit too."""
ROUNDS, HOLD = 15, 3.0
"""Rounds of the factor analysis; ridge on the factors, in pictures."""
LEAST = 0.01


def standardised_errors(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors over sigma (N, L, 2) and how pictures see displacements of the head (N, 2, 3)."""
    import cv2

    tracker, rng = make_tracker(load_head(), PredictOptions()), np.random.default_rng(0)
    bank = np.asarray(background_bank(64, 128, np.random.default_rng(7), None))
    errors: list[np.ndarray] = []
    views: list[np.ndarray] = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as shard:
            rgba, truth = shard["rgba"], shard["landmarks"]
            turns = shard["rotation"]
        rows = np.flatnonzero(np.isfinite(truth).all((1, 2)))
        pictures = []
        for row in rows:
            behind = bank[rng.integers(len(bank))].transpose(1, 2, 0)
            behind = cv2.resize(behind, rgba.shape[:1:-1], interpolation=cv2.INTER_CUBIC)
            alpha = rgba[row, 3][..., None] / 255
            flat = rgba[row, :3].transpose(1, 2, 0) * alpha + behind * (1 - alpha)
            flat += rng.normal(0, 2, flat.shape)
            pictures.append(flat.clip(0, 255).astype(np.uint8))
        near = [Place((truth[row] + rng.normal(0, 3, 2)).astype(np.float32)) for row in rows]
        for row, face in zip(rows, tracker.follow(pictures, near), strict=True):
            if face is not None:
                errors.append((face.xy - truth[row]) / face.sigma[:, None])
                views.append(turns[row, :2])
        if len(errors) >= count:
            break
    return np.clip(np.stack(errors[:count]), -CLIP, CLIP), np.stack(views[:count])


def sums(errors: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """B^T B (N, 3, 3) and B^T y (N, 3 L) of views B and errors y."""
    seen = np.einsum("nia,nli->nla", views, errors, optimize=True)
    return np.einsum("nia,nib->nab", views, views), seen.reshape(len(errors), -1)


def posterior(
    square: np.ndarray, seen: np.ndarray, factor: np.ndarray, rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision (N, r, r) of z, its right side (N, r) and its mean (N, r)."""
    rank = factor.shape[2]
    weighted = factor / rest[:, None, None]
    gram = np.einsum("lar,lbs->arbs", weighted, factor, optimize=True)
    precision = np.einsum("nab,arbs->nrs", square, gram, optimize=True) + np.eye(rank)
    right = seen @ weighted.reshape(-1, rank)
    return precision, right, np.linalg.solve(precision, right[..., None])[..., 0]


def factors(errors: np.ndarray, views: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor (L, 3, r) and rest (L,) of the variance of errors along a picture's axis."""
    count, landmarks = errors.shape[:2]
    square, seen = sums(errors, views)
    total = np.square(errors).sum((0, 2))
    _, values, rows = np.linalg.svd(seen / np.sqrt(count), full_matrices=False)
    factor = (values[:rank, None] * rows[:rank]).T.reshape(landmarks, 3, rank)
    rest = np.full(landmarks, 0.25)
    for _ in range(ROUNDS):
        precision, _, mean = posterior(square, seen, factor, rest)
        moment = np.linalg.inv(precision) + mean[:, :, None] * mean[:, None, :]
        matrix = np.einsum("nab,nrs->arbs", square, moment, optimize=True)
        matrix = matrix.reshape(3 * rank, 3 * rank)
        right = (seen.T @ mean).reshape(landmarks, 3 * rank)
        flat = np.linalg.solve(matrix + HOLD * np.eye(len(matrix)), right.T).T
        left = total - 2 * (flat * right).sum(1) + ((flat @ matrix) * flat).sum(1)
        rest = np.maximum(left / (2 * count), LEAST)
        factor = flat.reshape(landmarks, 3, rank)
    return factor, rest


def log_likelihood(
    errors: np.ndarray, views: np.ndarray, factor: np.ndarray, rest: np.ndarray
) -> float:
    """Mean over pictures, but for a constant."""
    precision, right, mean = posterior(*sums(errors, views), factor, rest)
    distance = (np.square(errors).sum(2) / rest).sum(1) - (right * mean).sum(1)
    volume = np.linalg.slogdet(precision)[1] + 2 * np.log(rest).sum()
    return float(-0.5 * (distance + volume).mean())


def inflation(factor: np.ndarray, rest: np.ndarray, head: HeadModel) -> dict[str, float]:
    """Mean factor on the variance of a frontal frame's parameters, against independent errors."""
    model = landmark_model(head, torch.float64)
    points = model.template.numpy().T
    turns = np.stack([np.cross(axis, points) for axis in np.eye(3)])
    shifts = np.stack([np.tile(axis, (len(points), 1)) for axis in np.eye(3)[:2]])
    shapes = model.expression[model.free].reshape(-1, 3, len(points)).numpy().swapaxes(1, 2)
    groups = {
        "pose": np.concatenate([turns, shifts, points[None] * [1, 1, 0]]),
        "expression": shapes,
        "identity": model.identity.reshape(-1, 3, len(points)).numpy().swapaxes(1, 2),
    }
    across = factor[:, :2].reshape(-1, factor.shape[2])
    own = np.repeat(rest, 2)
    out = {}
    for name, rows in groups.items():
        u, values, _ = np.linalg.svd(rows[:, :, :2].reshape(len(rows), -1).T, full_matrices=False)
        basis = u[:, values > 0.02 * values[0]]
        spread = np.square(basis.T @ across).sum(axis=1) + np.square(basis).T @ own
        alone = np.square(basis).T @ (np.square(across).sum(axis=1) + own)
        out[name] = float(np.mean(spread / alone))
    return out


def shared_part(people: Path, out: Path, factor: np.ndarray, rest: np.ndarray) -> float:
    """Correlation of z between moments of a person, mean over cameras; predictions go to `out`."""
    head, pairs, squares = load_head(), [], []
    for truth_file in sorted(people.glob("person_*/truth.npz")):
        truth = read_npz(truth_file)
        take = load_take([truth_file.with_name("take.yaml")])
        turn = rotation_matrix(truth["rotation"].astype(np.float64))
        local = head.vertices(truth["identity"], truth["expression"], truth["joints"])
        world = head.landmarks(local).astype(np.float64) @ turn.swapaxes(1, 2)
        world += truth["translation"][:, None]
        files = predict(take, out / truth_file.parent.name, PredictOptions())
        for name, file in files.items():
            camera, track = take.camera(name), read_landmarks(file)
            at = np.flatnonzero(track.valid)
            true = camera.project(world[at].reshape(-1, 3)).reshape(len(at), -1, 2)
            errors = np.clip((track.xy[at] - true) / track.sigma[at][..., None], -CLIP, CLIP)
            views = (np.asarray(camera.T_camera_world)[:3, :3] @ turn[at])[:, :2]
            z = posterior(*sums(errors, views), factor, rest)[2]
            products = z @ z.T
            pairs.extend(products[~np.eye(len(at), dtype=bool)])
            squares.extend(np.diag(products))
    return float(np.mean(pairs) / np.mean(squares))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--count", type=int, default=3060)
    parser.add_argument("--rank", type=int, default=96)
    parser.add_argument("--people", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/landmark_noise"))
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    errors, views = standardised_errors(chosen.shards, chosen.count)
    kept = np.arange(len(errors)) % 5 == 4
    variance = float(np.square(errors).mean())
    print(f"{len(errors)} faces, variance of error / sigma {variance:.2f}")
    factor, rest = factors(errors[~kept], views[~kept], chosen.rank)
    print(f"{100 * (1 - rest.mean() / variance):.0f} % of it in {chosen.rank} displacements")
    for name, part in (("seen", ~kept), ("kept aside", kept)):
        value = log_likelihood(errors[part], views[part], factor, rest)
        print(f"log likelihood, {name:11s} {value:8.1f}")
    for name, value in inflation(factor, rest, load_head()).items():
        print(f"{name:12s} variance {value:6.1f} times that of independent errors")
    factor, rest = factors(errors, views, chosen.rank)
    shared = 0.0
    if chosen.people:
        shared = shared_part(chosen.people, chosen.out, factor, rest)
        print(f"{100 * shared:.0f} % of that variance is common to a person's moments")
    if chosen.write:
        write_npz(
            chosen.write, factor=(factor / np.sqrt(variance)).astype(np.float16),
            rest=(rest / variance).astype(np.float16), shared=np.float64(shared),
        )  # fmt: skip


if __name__ == "__main__":
    main()
