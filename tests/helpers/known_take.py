"""A small take whose landmarks and head are known: two cameras see it, one looks away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration import Camera, Rig, write_rig
from densefit.capture import VideoWriter
from densefit.head.model import load_head
from densefit.head.rotation import rotation_matrix
from densefit.landmarks.files import LandmarkTrack

WIDTH, HEIGHT, FRAMES = 320, 240, 6
NAMES = ("left", "right", "back")
FLIP = rotation_matrix(np.array([np.pi, 0.0, 0.0]))  # the head's y is up, the cameras' down


@dataclass(frozen=True)
class Scene:
    """A small take with known truth; the camera `back` never sees a face."""

    take: Path
    tracks: dict[str, LandmarkTrack]
    vertices: np.ndarray  # (T, V, 3)


def make_camera(name: str, angle: float) -> Camera:
    centre = np.array([0.0, 0.0, 0.6])
    T = np.eye(4)
    T[:3, :3] = rotation_matrix(np.array([0.0, angle, 0.0]))
    T[:3, 3] = centre - T[:3, :3] @ centre
    K = [[350.0, 0, 160], [0, 350, 120], [0, 0, 1]]
    return Camera(name, WIDTH, HEIGHT, K=K, dist=[-0.1, 0.02, 0, 0], T_camera_world=T)


def make_scene(folder: Path) -> Scene:
    """Write take, rig and (grey) videos into `folder`."""
    head, rng = load_head(), np.random.default_rng(4)
    time = np.arange(FRAMES) / 25
    expression = np.zeros((FRAMES, 52))
    expression[:, head.expression_names.index("jawOpen")] = 0.3 + 4 * time / 3
    joints = np.zeros((FRAMES, 4, 3))
    joints[:, 2:, 1] = 0.2
    rotation = FLIP @ rotation_matrix(np.stack([0 * time, time, 0 * time], 1))
    identity = rng.normal(0, 0.5, head.identity_count)
    vertices = head.vertices(identity, expression, joints) @ rotation.swapaxes(1, 2)
    vertices = vertices + np.array([0.0, 0.02, 0.6])
    landmarks = head.landmarks(vertices)
    cameras = {"left": make_camera("left", -0.3), "right": make_camera("right", 0.3)}
    cameras["back"] = make_camera("back", np.pi)
    tracks = {}
    for name, camera in cameras.items():
        exact = np.stack([camera.project(points) for points in landmarks])
        xy = (exact + rng.normal(0, 0.3, exact.shape)).astype(np.float32)
        tracks[name] = make_track(xy, time, head.landmarks_version, name != "back")
        with VideoWriter(folder / f"{name}.mp4", 25, WIDTH, HEIGHT) as video:
            for _ in range(FRAMES):
                video.write(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    write_rig(folder / "rig.yaml", Rig(cameras))
    lines = "".join(f"  {name}: {name}.mp4\n" for name in cameras)
    (folder / "take.yaml").write_text(f"rig: rig.yaml\ncameras:\n{lines}")
    return Scene(folder / "take.yaml", tracks, vertices)


def make_track(xy: np.ndarray, time: np.ndarray, version: str, seen: bool) -> LandmarkTrack:
    sigma = np.full(xy.shape[:2], 0.5, np.float32)
    return LandmarkTrack(
        xy=xy if seen else np.full_like(xy, np.nan),
        sigma=sigma if seen else np.full_like(sigma, np.nan),
        time=time,
        valid=np.full(len(time), seen),
        roi=np.ones((len(time), 5), np.float32),
        landmarks_version=version,
    )
