"""A small head and a random take, for fast tests of files and formats."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from densefit.fit_file import SHAPES, write_fit
from densefit.head.model import EXPRESSION_NAMES, HeadModel

PARTS = (
    "skin",
    "ears",
    "scalp",
    "neck",
    "mouth",
    "eyes",
    "iris",
    "pupil",
    "teeth",
    "gums",
    "tongue",
    "lashes",
)


def toy_head(seed: int = 0, identity_count: int = 5) -> HeadModel:
    """An egg of 10 cm radius, closed, with a UV seam, random modes and smooth skinning."""
    rng = np.random.default_rng(seed)
    rings, around = 12, 16
    theta = np.linspace(0.1, np.pi - 0.1, rings)[:, None]
    phi = np.linspace(0, 2 * np.pi, around, endpoint=False)[None]
    x = np.sin(theta) * np.sin(phi)
    y = np.broadcast_to(np.cos(theta), x.shape)
    z = np.sin(theta) * np.cos(phi)
    template = (np.stack([x, y, z], -1).reshape(-1, 3) * [0.08, 0.12, 0.1]).astype(np.float32)
    quads, uv_quads = [], []
    for r in range(rings - 1):
        for a in range(around):
            b = (a + 1) % around
            quads.append(
                [r * around + a, (r + 1) * around + a, (r + 1) * around + b, r * around + b]
            )
            row = around + 1
            uv_quads.append(
                [r * row + a, (r + 1) * row + a, (r + 1) * row + a + 1, r * row + a + 1]
            )
    split = [[0, 1, 2], [0, 2, 3]]
    triangles = np.array(quads)[:, split].reshape(-1, 3).astype(np.int32)
    uv_triangles = np.array(uv_quads)[:, split].reshape(-1, 3).astype(np.int32)
    uv = np.stack(np.meshgrid(np.linspace(0, 1, around + 1), np.linspace(1, 0, rings)), -1)
    count = len(template)
    weights = rng.random((count, 4)).astype(np.float32) * (rng.random((count, 4)) > 0.4)
    weights[:, 1] += 0.1
    return HeadModel(
        name="toy",
        sha256="ab" * 32,
        template=template,
        triangles=triangles,
        uv=uv.reshape(-1, 2).astype(np.float32),
        uv_triangles=uv_triangles,
        triangle_part=(np.arange(len(triangles)) // 2 % len(PARTS)).astype(np.uint8),  # by quad
        part_names=PARTS,
        identity_basis=rng.normal(0, 0.003, (identity_count, count, 3)).astype(np.float32),
        expression_basis=rng.normal(0, 0.004, (52, count, 3)).astype(np.float32),
        joint_centres=np.array(
            [[0, -0.1, -0.02], [0, 0, 0], [0.03, 0, 0.07], [-0.03, 0, 0.07]], np.float32
        ),
        joint_basis=rng.normal(0, 0.002, (identity_count, 4, 3)).astype(np.float32),
        skinning=weights / weights.sum(1, keepdims=True),
        landmark_vertices=rng.integers(0, count, (703, 3)).astype(np.int32),
        landmark_weights=np.full((703, 3), 1 / 3, np.float32),
        landmark_region=(np.arange(703) % 3).astype(np.uint8),
        region_names=("left_upper_lid", "lips_outer_upper", "jaw"),
        face320=np.arange(320, dtype=np.int32),
        ibug68=np.arange(68, dtype=np.int32),
        landmarks_version="toy",
        mirror_vertices=np.arange(count, dtype=np.int32),
        mirror_landmarks=np.arange(703, dtype=np.int32),
        lid_limits=np.array([0.5, 0.7], np.float32),
    )


def random_result(
    head: HeadModel, frames: int = 9, cameras: int = 2, seed: int = 1
) -> SimpleNamespace:
    """A take with every parameter in motion; frames 3 and 4 have no head, frame 6 is kept by the
    smoother."""
    rng = np.random.default_rng(seed)
    joints = rng.normal(0, 0.15, (frames, 4, 3))
    joints[:, 1] = 0
    expression = head.with_gaze(rng.random((frames, 52)), joints)
    valid = np.ones(frames, bool)
    result = SimpleNamespace(
        identity=rng.normal(0, 1, head.identity_count),
        expression=expression,
        # Beyond half a turn, so that quaternion signs matter.
        rotation=rng.normal(0, 0.3, (frames, 3)) + [3.0, 0.2, 0.1],
        translation=rng.normal(0, 0.05, (frames, 3)) + [0.1, 0.05, 0.8],
        joints=joints,
        time=np.arange(frames) / 25 + 1.5,
        valid=valid,
        residual_px=rng.random((frames, cameras)),
    )
    for name in ("identity", "expression", "rotation", "translation", "joints"):
        setattr(result, f"{name}_std", np.full_like(getattr(result, name), 0.01))
    absent = [frame for frame in (3, 4) if frame < frames]
    for name, shape in SHAPES.items():
        if shape[0] == "T" and name not in ("time", "valid"):
            getattr(result, name)[absent] = np.nan
    valid[[*absent, *([6] if frames > 6 else [])]] = False
    return result


def toy_meta(head: HeadModel, cameras: tuple[str, ...] = ("left", "right")) -> dict[str, object]:
    return {
        "model": {"name": head.name, "sha256": head.sha256},
        "landmarks_version": head.landmarks_version,
        "cameras": list(cameras),
        "expression_names": list(EXPRESSION_NAMES),
        "units": {"length": "m"},
        "scale": "calibrated",
        "fps": 25.0,
    }


def write_toy_fit(out: Path, head: HeadModel, **changes: object) -> Path:
    """Write a random fit into `out`; `changes` replace arrays of the result."""
    result = random_result(head)
    for name, value in changes.items():
        setattr(result, name, value)
    return write_fit(out, result, toy_meta(head))
