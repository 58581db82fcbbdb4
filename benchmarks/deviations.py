"""Are the fit's deviations true? `python benchmarks/deviations.py [--takes 40] [--cameras 3]`.

Takes are drawn from the fit's own priors; their landmarks err with the covariance that was measured
on held-out renders (densefit/fit/noise.npz), partly alike in all frames of a take. Each is fitted,
and errors are divided by the deviations that the fit states: their variance should be one.
Expressions count that are away from their bounds, in truth and in the fit. Where landmarks are
follows from identity and motion: its deviations come from the whole covariance, written out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from calibration import Camera
from densefit.fit import FitOptions, Observations, fit
from densefit.fit.intersection import contact_points, find_contacts
from densefit.fit.joint_fit import JointFit
from densefit.fit.landmark_model import landmark_model
from densefit.fit.linearization import Linearization
from densefit.fit.noise import ScoreCovariance, shipped_noise
from densefit.fit.priors import expression_precision, expression_slopes
from densefit.fit.solver import held_unknowns
from densefit.fit.state import State, move
from densefit.fit.steps import Start
from densefit.head import load_head
from densefit.head.model import EXPRESSION_NAMES, HeadModel
from densefit.head.rotation import rotation_matrix
from densefit.synth.take import look_at

FRAMES, SIGMA_PX, FOCAL, DISTANCE = 6, 3.0, 1500.0, 0.9
GRID = np.linspace(0, 1, 201)
"""Values that expressions are drawn from."""
OPTIONS = FitOptions(
    independent_frames=True, hidden_weight=1.0, region_weights={}, sigma_floor_px=0.0,
    model_sigma=0.0,
)  # fmt: skip
"""Hidden surface and ears err here as their sigmas say, and nothing else errs."""


@dataclass(frozen=True)
class Take:
    """Truth of T frames: identity (K,), expression (T, 52), joints (T, 4, 3), rotation (T, 3),
    translation (T, 3), world landmarks (T, L, 3)."""

    identity: np.ndarray
    expression: np.ndarray
    joints: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    world: np.ndarray


def draw_expressions(rng: np.random.Generator) -> np.ndarray:
    """(FRAMES, 52) from exp(-1/2 psi' D psi - rest' psi) on [0, 1]: D couples left with right."""
    precision = expression_precision(OPTIONS).numpy()
    rest = expression_slopes(OPTIONS).numpy()
    expression = np.zeros((FRAMES, len(EXPRESSION_NAMES)))
    cost = 0.5 * np.diag(precision)[:, None] * GRID**2 + rest[:, None] * GRID
    left = []
    for i, row in enumerate(precision):
        if i in left:
            continue
        pair = [i, *(np.flatnonzero(row[i + 1 :]) + i + 1)]
        left += pair
        if len(pair) == 1:
            joint = cost[i][:, None]
        else:
            joint = cost[i][:, None] + cost[pair[1]] + row[pair[1]] * np.outer(GRID, GRID)
        chance = np.exp(joint.min() - joint).ravel()
        places = rng.choice(len(chance), FRAMES, p=chance / chance.sum())
        for name, place in zip(pair, np.unravel_index(places, joint.shape), strict=False):
            expression[:, name] = GRID[place]
    return expression


def possible(
    head: HeadModel, identity: np.ndarray, expression: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(FRAMES,) bool: with the odds of E_intersect, a third being lips behind the teeth."""
    model = landmark_model(head, torch.float64).contacts
    points = contact_points(model, torch.from_numpy(identity), torch.from_numpy(expression))
    cost = find_contacts(model, points).energy(OPTIONS.contact_sd, FRAMES)
    return rng.random(FRAMES) < np.exp(-cost.numpy())


def draw(head: HeadModel, rng: np.random.Generator) -> Take:
    """Separate moments of a person, from the priors of identity, expressions, neck and eyes."""
    joints = np.zeros((FRAMES, 4, 3))
    joints[:, 0] = OPTIONS.neck_sd * rng.normal(size=(FRAMES, 3))
    gaze = OPTIONS.eye_sd * rng.normal(size=(FRAMES, 2))
    apart = rng.normal(size=(FRAMES, 2)) * [OPTIONS.eye_vertical_sd, OPTIONS.eye_vergence_sd]
    joints[:, 2, :2], joints[:, 3, :2] = gaze + apart / 2, gaze - apart / 2
    identity = rng.normal(size=head.identity_count)
    expression, kept = np.zeros((FRAMES, len(EXPRESSION_NAMES))), np.zeros(FRAMES, bool)
    while not kept.all():
        fresh = head.with_gaze(draw_expressions(rng), joints)
        taken = possible(head, identity, fresh, rng) & ~kept
        expression[taken] = fresh[taken]
        kept |= taken
    rotation = 0.25 * rng.normal(size=(FRAMES, 3))
    translation = 0.03 * rng.normal(size=(FRAMES, 3))
    points = head.landmarks(head.vertices(identity, expression, joints)).astype(np.float64)
    world = points @ rotation_matrix(rotation).swapaxes(1, 2) + translation[:, None]
    return Take(identity, expression, joints, rotation, translation, world)


def observe(take: Take, cameras: list[Camera], rng: np.random.Generator) -> Observations:
    """Landmarks of the take with errors that go together."""
    noise = shipped_noise()
    factor = noise.factor.numpy()
    count = take.world.shape[1]
    sigma = SIGMA_PX * np.exp(0.4 * rng.normal(size=count))
    length = sigma * DISTANCE / FOCAL
    rank = factor.shape[2]
    alone, alike = rng.normal(size=(FRAMES, rank, 1)), rng.normal(size=(rank, 1))
    moved = factor @ (np.sqrt(1 - noise.shared) * alone + np.sqrt(noise.shared) * alike)[:, None]
    moved = moved[..., 0] * length[:, None] @ rotation_matrix(take.rotation).swapaxes(1, 2)
    shape = (FRAMES, count, 2)
    xy = []
    for camera in cameras:
        seen = camera.project((take.world + moved).reshape(-1, 3)).reshape(shape)
        xy.append(seen + np.sqrt(noise.rest) * sigma[:, None] * rng.normal(size=shape))
    sigmas = np.broadcast_to(sigma, (FRAMES, len(cameras), count))
    return Observations(
        np.stack(xy, 1).astype(np.float32), sigmas.astype(np.float32),
        np.ones((FRAMES, len(cameras)), bool), 10.0 * np.arange(FRAMES),
    )  # fmt: skip


def landmark_errors(
    head: HeadModel, take: Take, cameras: list[Camera], seen: Observations
) -> np.ndarray:
    """Errors (FRAMES, L, 3) of the fitted landmarks in the world over their deviations.

    Var J x = J C J' with C = H^-1 M H^-1 of the whole take and J by differences. Frames stand
    on their own, and cameras are known: unknowns are those of a frame, and identity.
    """
    job = JointFit(head, cameras, seen, OPTIONS, np.arange(FRAMES))
    start = job.start()
    covariance = whole_covariance(job, start).numpy()
    size = start.solution.system.gradient.shape[1]
    job.set_model(torch.float64)
    jacobians = landmark_jacobians(job, start.solution.state, size)
    identity = job.without_bias(start.state.identity)
    found = job.world(identity, start.state.motion).mT.numpy()
    out = []
    for t, jacobian in enumerate(jacobians):
        own = np.r_[t * size : (t + 1) * size, FRAMES * size + np.arange(job.head.identity_count)]
        jacobian = jacobian[:, : len(own)]
        variance = ((jacobian @ covariance[np.ix_(own, own)]) * jacobian).sum(1)
        out.append((found[t] - take.world[t]) / np.sqrt(variance).reshape(-1, 3))
    return np.stack(out)


def whole_covariance(job: JointFit, start: Start) -> torch.Tensor:
    """H^-1 M H^-1 of all frames and identity, as it is stated, zero for expressions at a bound."""
    priors, solution = job.priors(start.picked), start.solution
    held = held_unknowns(job.model, solution.state, solution.system.gradient)
    free = torch.cat([~held.reshape(-1), torch.ones(len(solution.system.border), dtype=bool)])
    assert job.noise is not None
    score = job.score(start, priors, job.noise)
    shared = torch.cat([score.shared_frames.flatten(0, 1), score.shared_border])
    whole = (_whole(score) + shared @ shared.T)[free][:, free]
    inverse = torch.linalg.inv(_whole(solution.system)[free][:, free])
    out = torch.zeros(len(free), len(free), dtype=torch.float64)
    out[torch.outer(free, free)] = (inverse @ whole @ inverse).reshape(-1)
    frame, border = job.excess(len(solution.system.border))
    more = torch.cat([frame.repeat(FRAMES), border])
    return torch.outer(more, more) * out


def _whole(blocks: Linearization | ScoreCovariance) -> torch.Tensor:
    """A matrix of frames without links, and its border, written out."""
    frames = torch.block_diag(*blocks.diagonal)
    cross = blocks.cross.double().flatten(0, 1)
    return torch.cat([torch.cat([frames, cross], 1), torch.cat([cross.T, blocks.border], 1)])


def landmark_jacobians(job: JointFit, state: State, size: int) -> np.ndarray:
    """(FRAMES, 3 L, size + K): derivatives of each frame's landmarks (x, y, z of each) in the world
    by its own unknowns and identity; the last columns are those of the bias."""
    step, count, modes = 1e-4, len(state.motion), len(state.identity)
    columns = []

    def places(unknown: int, step: float) -> torch.Tensor:
        moved = torch.zeros(size + modes, dtype=torch.float64)
        moved[unknown] = step
        there = move(job.model, state, moved[:size].expand(count, size), moved[size:], moved[:0])
        return job.world(there.identity, there.motion).mT.flatten(1)

    still = places(0, 0.0)
    for unknown in range(size):
        columns.append((places(unknown, step) - places(unknown, -step)) / (2 * step))
    for unknown in range(size, size + modes):  # linear
        columns.append(places(unknown, 1.0) - still)
    return torch.stack(columns, 2).numpy()


def standardised(
    head: HeadModel, take: Take, cameras: list[Camera], seen: Observations
) -> dict[str, np.ndarray]:
    """Errors over stated deviations of one take, by kind of parameter; and residuals over sigma."""
    found = fit(head, cameras, seen, OPTIONS)
    apart = rotation_matrix(take.rotation).swapaxes(1, 2) @ rotation_matrix(found.rotation)
    turn = np.stack([apart[:, 2, 1], apart[:, 0, 2], apart[:, 1, 0]], 1)
    inside = (found.expression > 0.1) & (found.expression < 0.9) & (take.expression > 0.02)
    inside &= found.expression_std > 0
    error = found.expression - take.expression
    return {
        "identity": (found.identity - take.identity) / found.identity_std,
        "rotation": (turn / found.rotation_std).ravel(),
        "translation": ((found.translation - take.translation) / found.translation_std).ravel(),
        "expression": error[inside] / found.expression_std[inside],
        "landmark positions": landmark_errors(head, take, cameras, seen).ravel(),
        "residual / error": found.sigma_scale,
    }


def main() -> None:
    """Draw, fit, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--takes", type=int, default=40)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="seed of the first take")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    head = load_head()
    pooled: dict[str, list[np.ndarray]] = {}
    angles = np.deg2rad(np.linspace(-40, 40, chosen.cameras)) if chosen.cameras > 1 else [0.15]
    places = [(float(DISTANCE * np.sin(a)), 0.05, float(DISTANCE * np.cos(a))) for a in angles]
    cameras = [look_at(f"c{i}", p, (1280, 960), FOCAL) for i, p in enumerate(places)]
    for seed in range(chosen.first, chosen.first + chosen.takes):
        rng = np.random.default_rng(seed)
        take = draw(head, rng)
        parts = standardised(head, take, cameras, observe(take, cameras, rng))
        for name, values in parts.items():
            pooled.setdefault(name, []).append(values)
        print(seed, {k: round(float(np.mean(np.square(np.concatenate(v)))), 2)
                     for k, v in pooled.items()}, flush=True)  # fmt: skip
    rows = []
    for name, parts in pooled.items():
        each = [float(np.mean(np.square(part))) for part in parts]
        value = float(np.mean(np.square(np.concatenate(parts))))
        error = float(np.std(each) / np.sqrt(len(each)))
        print(f"{name:18s} mean square {value:6.3f} +- {error:.3f}")
        row = {"name": f"standardised errors, {name}, {chosen.cameras} cameras", "value": value}
        rows.append(row | {"unit": "variance", "peer": None, "peer_value": None})
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
