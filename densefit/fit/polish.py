"""Newton steps of identity and cameras over all frames of one or more long takes.

Each take sums the Schur complements of its windows (`windows.py`); after a step its motion is
solved again.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from densefit.fit.inverse import Deviations
from densefit.fit.state import State
from densefit.fit.windows import LongSolution, Windows

Tensor = torch.Tensor

SETTLED, SETTLED_WITH_CAMERAS = 1e-4, 3e-5
"""m: mean movement of the landmarks by a step of identity after which no other is needed: another
would move them by a twentieth of it, by more where cameras move, too."""
SETTLED_GAIN = 1e-3
"""Relative decrease of the energy by a step, cameras among the unknowns, after which no other is
worth solving all motion again."""
ROUNDS = 3


def solve_together(
    takes: list[Windows], states: list[State], fresh: list[bool], rounds: int = ROUNDS
) -> list[LongSolution]:
    """Motion of all frames of one or more takes of one person, their cameras, and one identity.

    Args:
        states: starts; their identities are averaged.
        fresh: by take, whether its motion is no more than first poses.
    """
    modes = takes[0].modes
    seen = sum(take.seen for take in takes)
    if modes:
        states = _of_one_identity(takes, states)
    states = [
        take.motion(state, new, 0.0, 0.6)
        for take, state, new in zip(takes, states, fresh, strict=True)
    ]
    index = _border_index(states, modes)
    total = modes + sum(state.cameras.unknowns for state in states)
    weight = takes[0].data.priors(np.zeros(1, int), seen).identity_weight
    covariance = torch.zeros(total, total, dtype=torch.float64)
    # Steps of identity alone are as good as promised, and need no weighing.
    reached = _energy(takes, states, weight) if total > modes else math.inf
    for turn in range(rounds if total else 0):
        matrix, slope = _reduced(takes, states, index, weight)
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
        step = -covariance @ slope
        begun = 0.6 + 0.3 * turn / rounds
        moved = [
            take.motion(state, False, begun, begun + 0.3 / rounds, step[own])
            for take, state, own in zip(takes, states, index, strict=True)
        ]
        if total > modes:
            there = _energy(takes, moved, weight)
            if there > reached:
                break
            settled = reached - there < SETTLED_GAIN * there
            states, reached, least = moved, there, SETTLED_WITH_CAMERAS
        else:
            states, settled, least = moved, False, SETTLED
        if settled or takes[0].movement(step[:modes]) < least:
            break
    out = []
    for take, state, own in zip(takes, states, index, strict=True):
        border = covariance[own[:, None], own]
        frames = take.deviations(state, border)
        spread = Deviations(frames, border.diagonal().clamp_min(0).sqrt(), border)
        out.append(LongSolution(state, spread))
    return out


def _of_one_identity(takes: list[Windows], states: list[State]) -> list[State]:
    """With the mean of their identities, by the frames that each take sees."""
    weights = torch.tensor([float(take.seen) for take in takes], dtype=torch.float64)
    weights /= weights.sum()
    identity = torch.einsum("n,nk->k", weights, torch.stack([s.identity for s in states]))
    return [replace(state, identity=identity) for state in states]


def _reduced(
    takes: list[Windows], states: list[State], index: list[Tensor], weight: float
) -> tuple[Tensor, Tensor]:
    """Matrix (N, N) and slope (N,) of the energy by all unknowns but the frames'.

    Args:
        weight: of identity's prior, all takes' frames counted.
    """
    modes = takes[0].modes
    total = modes + sum(state.cameras.unknowns for state in states)
    matrix = torch.zeros(total, total, dtype=torch.float64)
    slope = torch.zeros(total, dtype=torch.float64)
    matrix.diagonal()[:modes] += weight
    slope[:modes] += weight * states[0].identity[:modes]
    for take, state, own in zip(takes, states, index, strict=True):
        part = take.reduced(state)
        matrix[own[:, None], own] += part.matrix
        slope[own] += part.slope
    return matrix, slope


def _energy(takes: list[Windows], states: list[State], weight: float) -> float:
    """What a step is weighed by."""
    identity = states[0].identity[: takes[0].modes]
    own = 0.5 * weight * float(identity @ identity)
    return own + sum(take.energy(state) for take, state in zip(takes, states, strict=True))


def _border_index(states: list[State], modes: int) -> list[Tensor]:
    """Where each take's border (identity, own cameras) stands among all unknowns."""
    out, at = [], modes
    for state in states:
        own = torch.arange(at, at + state.cameras.unknowns)
        out.append(torch.cat([torch.arange(modes), own]))
        at += state.cameras.unknowns
    return out
