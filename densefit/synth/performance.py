"""A short performance: somebody talks, blinks, smiles and turns the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from densefit.head.model import EXPRESSION_INDEX
from densefit.synth.people import ACTS

SOUNDS = ("vowel a", "vowel e", "vowel o", "vowel u", "lips closed", "f", "sh", "smile")
SYLLABLE = 0.17
"""Seconds from one sound to the next."""


@dataclass(frozen=True)
class Performance:
    """T frames: expression (T, 52) without eyeLook, joints (T, 4, 3), rotation (T, 3) axis-angle
    and translation (T, 3) of the head in the world, time (T,) seconds."""

    expression: np.ndarray
    joints: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    time: np.ndarray


def perform(seconds: float, fps: float, seed: int, turn: float = 0.45) -> Performance:
    """Make a performance.

    Args:
        turn: radians, how far the head turns to either side.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * fps)) / fps
    expression = _speech(time, fps, rng)
    _blinks(expression, time, rng)
    _brows(expression, time, rng)
    phase = rng.uniform(0, 2 * np.pi, 6)
    rotation = np.stack([
        0.10 * np.sin(2 * np.pi * 0.8 * time + phase[0]),
        turn * np.sin(2 * np.pi * 0.5 * time + phase[1]) * 0.9,
        0.07 * np.sin(2 * np.pi * 0.6 * time + phase[2]),
    ], 1)  # fmt: skip
    translation = 0.012 * np.stack(
        [np.sin(2 * np.pi * f * time + p) for f, p in zip((0.5, 0.7, 0.4), phase[3:], strict=True)],
        1,
    )
    return Performance(expression, _joints(rotation, time, fps, rng), rotation, translation, time)


def _speech(time: np.ndarray, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Sounds in a row, blended into one another as lips do."""
    expression = np.zeros((len(time), 52))
    start = 0.05
    while start < time[-1] + SYLLABLE:
        act = ACTS[SOUNDS[rng.integers(len(SOUNDS))]]
        strength = rng.uniform(0.4, 1.0)
        during = (time >= start) & (time < start + SYLLABLE)
        for name, (low, high) in act.items():
            value = strength * rng.uniform(low, high)
            names = [name] if name in EXPRESSION_INDEX else [name + "Left", name + "Right"]
            for full in names:
                expression[during, EXPRESSION_INDEX[full]] = value
        start += SYLLABLE * rng.uniform(0.8, 1.3)
    smile = np.clip(np.sin(2 * np.pi * (0.35 * time + rng.uniform())), 0, 1)[:, None]
    for name in ("mouthSmile", "cheekSquint"):
        for side in ("Left", "Right"):
            column = EXPRESSION_INDEX[name + side]
            expression[:, column] = np.maximum(expression[:, column], 0.35 * smile[:, 0])
    return gaussian_filter1d(expression, 0.055 * fps, axis=0, mode="nearest")


def _blinks(expression: np.ndarray, time: np.ndarray, rng: np.random.Generator) -> None:
    for moment in np.arange(rng.uniform(0.3, 0.7), time[-1], 1.3):
        lid = np.clip(1.15 - np.abs(time - moment) / 0.085, 0, 1)
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            column = EXPRESSION_INDEX[name]
            expression[:, column] = np.maximum(expression[:, column], lid)


def _brows(expression: np.ndarray, time: np.ndarray, rng: np.random.Generator) -> None:
    lift = np.clip(np.sin(2 * np.pi * (0.6 * time + rng.uniform())), 0, 1)
    expression[:, EXPRESSION_INDEX["browInnerUp"]] = 0.5 * lift
    for name in ("browOuterUpLeft", "browOuterUpRight"):
        expression[:, EXPRESSION_INDEX[name]] = 0.35 * lift


def _joints(
    rotation: np.ndarray, time: np.ndarray, fps: float, rng: np.random.Generator
) -> np.ndarray:
    """Eyes that keep looking ahead while the head turns, with small jumps; the body stays put."""
    joints = np.zeros((len(time), 4, 3))
    # The shoulders follow a third of the turn: the neck turns them back against the head.
    joints[:, 0] = -0.65 * rotation
    jumps = np.repeat(rng.normal(0, 0.05, (len(time) // 12 + 1, 2)), 12, axis=0)[: len(time)]
    jumps = gaussian_filter1d(jumps, 0.02 * fps, axis=0, mode="nearest")
    for eye, vergence in ((2, -0.03), (3, 0.03)):
        joints[:, eye, 0] = np.clip(-0.7 * rotation[:, 0] + jumps[:, 0], -0.4, 0.35)
        joints[:, eye, 1] = np.clip(-0.7 * rotation[:, 1] + jumps[:, 1] + vergence, -0.55, 0.55)
    return joints


def as_tensors(performance: Performance) -> tuple[torch.Tensor, torch.Tensor]:
    """expression and joints as float32 tensors."""
    return (
        torch.tensor(performance.expression, dtype=torch.float32),
        torch.tensor(performance.joints, dtype=torch.float32),
    )
