"""A fit that was stopped after any of its steps goes on there, and ends with the same arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest

from densefit.fit import FitOptions, FitResult, fit
from densefit.fit.checkpoints import Checkpoints, Result
from tests.fit.synthetic import camera_ring, observe, sample_truth, tiny_head

LONG = FitOptions(
    threads=1, joint_frames=3, keyframes=3, window=3, overlap=1, refine_cameras="extrinsics",
    max_iterations=1,
)  # fmt: skip
"""A take of 6 frames is a long one: keyframes, then two windows."""


@dataclass(frozen=True)
class Number:
    value: float


class Stopped(Exception):
    """Stands for kill -9."""


class Interrupted(Checkpoints):
    """Stops the fit when some steps have been made; counts them."""

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__(folder)
        self.left, self.made = steps, 0

    def keep(self, name: str, kind: type[Result], make: Callable[[], Result]) -> Result:
        def counted() -> Result:
            if self.made >= self.left:
                raise Stopped
            result = make()
            self.made += 1
            return result

        return super().keep(name, kind, counted)


def run(checkpoints: Checkpoints) -> FitResult:
    head, cameras = tiny_head(), camera_ring(2)
    observations = observe(head, cameras, sample_truth(head, 6), 0.5)
    return fit(head, cameras, observations, LONG, checkpoints=checkpoints)


def assert_equal(one: FitResult, two: FitResult) -> None:
    for field in fields(FitResult):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if field.name == "cameras":
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x.K, y.K)
                np.testing.assert_array_equal(x.T_camera_world, y.T_camera_world)
        else:
            np.testing.assert_array_equal(a, b, err_msg=field.name)


def test_stopped_after_any_step(tmp_path: Path) -> None:
    whole = Interrupted(tmp_path / "whole", 1000)
    expected = run(whole)
    steps = whole.made
    assert steps > 8, "poses, keyframes, and several passes over three windows"
    for stop in {1, steps // 2}:
        folder = tmp_path / f"stopped{stop}"
        with pytest.raises(Stopped):
            run(Interrupted(folder, stop))
        resumed = Interrupted(folder, 1000)
        # Steps inside the joint solve are not asked for again once that is kept.
        assert_equal(run(resumed), expected)
        assert resumed.made <= steps - stop


def test_a_damaged_step_is_made_again(tmp_path: Path) -> None:
    expected = run(Checkpoints(tmp_path))
    steps = sorted(tmp_path.glob("motion0_*.npz"))
    for file in steps:
        file.write_bytes(file.read_bytes()[:100])
    again = Interrupted(tmp_path, 1000)
    assert_equal(run(again), expected)
    assert again.made == len(steps) == 2


def test_steps_of_another_fit_go(tmp_path: Path) -> None:
    Checkpoints.of(tmp_path, "before").keep("poses", Number, lambda: Number(1.5))
    assert Checkpoints.of(tmp_path, "before").finished == 1
    assert Checkpoints.of(tmp_path, "now").finished == 0
    assert [folder.name for folder in tmp_path.iterdir()] == ["now"]
