"""A finished output folder of the toy head: fit, rig, footage and landmarks that nearly agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from densefit.export.scene import frame_vertices
from densefit.fit_file import read_fit
from densefit.head.model import HeadModel
from densefit.landmarks.files import LandmarkTrack, write_landmarks
from tests.export.rig_fixture import FRAMES, write_toy_footage, write_toy_rig
from tests.toy_fit import random_result, write_toy_fit

NOISE_PX = 0.8


def write_toy_out(out: Path, head: HeadModel) -> None:
    rig = write_toy_rig(out)
    rng = np.random.default_rng(5)
    motion = rng.normal(0, 0.05, (FRAMES, 3))
    result = random_result(head)
    # The face looks at the cameras, which look along z.
    rotation = np.where(np.isfinite(result.rotation), [np.pi, 0.02, 0.02] + motion, np.nan)
    residual = np.abs(rng.normal(NOISE_PX, 0.2, (FRAMES, 2)))
    residual[~result.valid] = np.nan
    residual[0, 1] = np.nan  # `right` has no picture there
    write_toy_fit(out, head, rotation=rotation, residual_px=residual)
    write_toy_footage(out)
    (out / "sync.yaml").write_text("offsets:\n  left: 0.0\n  right: 0.04\n")
    points = head.landmarks(frame_vertices(read_fit(out), head).astype(np.float64))
    for lag, (name, camera) in enumerate(rig.cameras.items()):
        xy = np.full((FRAMES, 703, 2), np.nan, np.float32)
        for frame in np.flatnonzero(result.valid):
            if frame >= lag:
                xy[frame - lag] = camera.project(points[frame]) + rng.normal(0, NOISE_PX, (703, 2))
        valid = np.isfinite(xy).all(axis=(1, 2))
        roi = np.full((FRAMES, 5), np.nan, np.float32)
        roi[valid] = [320, 240, 250, 0, 1]
        sigma = np.where(valid[:, None], np.float32(NOISE_PX), np.nan) * np.ones(703, np.float32)
        (out / "landmarks").mkdir(exist_ok=True)
        track = LandmarkTrack(xy, sigma, np.arange(FRAMES) / 25, valid, roi, "toy")
        write_landmarks(out / "landmarks" / f"{name}.npz", track)
