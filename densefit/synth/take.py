"""Renders whole takes with known truth: the sample rigs that ship with densefit.

One person in a room performs before one or several cameras. Written are the videos, take.yaml,
rig.yaml (where the cameras are to be known) and truth.npz.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.camera import Camera
from calibration.rig import Rig, write_rig
from densefit.files import atomic_path, ensure_out_dir, write_text
from densefit.head.model import HeadModel, load_head
from densefit.head.rotation import rotation_matrix
from densefit.progress import progress
from densefit.synth.light import (
    Light,
    Metering,
    irradiance_coefficients,
    metered,
    take_out_sun,
    tone_map,
)
from densefit.synth.people import People
from densefit.synth.performance import perform
from densefit.synth.render import Renderer
from densefit.synth.room import make_room
from densefit.synth.sampling import rows
from densefit.synth.scene import Scene, sample_scene
from densefit.synth.scheduling import kept_policy
from densefit.synth.views import Views

CHUNK = 2
"""Frames rendered at once: large pictures need much memory."""
NOISE = 0.006
"""Standard deviation of the sensor noise, of full scale."""
ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}


@dataclass(frozen=True)
class TakeOptions:
    """A take to render.

    name; person: seed of the person (not among the seeds of training renders); performance: seed
    of the motion; room: seed of the room; seconds; fps; turn: radians, how far the head turns;
    codecs and qualities (constant rate factors): one for each camera; calibrated: write rig.yaml.
    """

    name: str
    cameras: tuple[Camera, ...]
    person: int
    performance: int = 1
    room: int = 1
    seconds: float = 2.0
    fps: float = 30.0
    turn: float = 0.45
    codecs: tuple[str, ...] = ("h264",)
    qualities: tuple[int, ...] = (27,)
    calibrated: bool = True


def look_at(
    name: str, position: tuple[float, float, float], size: tuple[int, int], focal: float,
    target: tuple[float, float, float] = (0.0, -0.05, 0.0), center: tuple[float, float] = (0, 0),
) -> Camera:  # fmt: skip
    """A camera at `position` (world, y up, metres) that looks at `target`, horizon level.

    Args:
        size: width and height, px; focal: px; center: principal point off the middle, px.
    """
    forward = np.subtract(target, position)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation, -rotation @ np.asarray(position)
    width, height = size
    cx, cy = (width - 1) / 2 + center[0], (height - 1) / 2 + center[1]
    K = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1.0]])
    return Camera(name, width, height, K=K, dist=np.zeros(4), T_camera_world=T)


def trio() -> TakeOptions:
    """Three cameras 25 degrees apart around a talking, turning head."""
    cameras = []
    for name, angle, distance, focal in (
        ("left", -25.0, 0.92, 905.0), ("center", 0.0, 0.88, 880.0), ("right", 25.0, 0.95, 915.0),
    ):  # fmt: skip
        turn = np.deg2rad(angle)
        position = (distance * np.sin(turn), 0.03, distance * np.cos(turn))
        center = (3.0 * np.sin(7 * turn), 4.0 * np.cos(5 * turn))
        cameras.append(look_at(name, position, (640, 480), focal, center=center))
    return TakeOptions(
        "trio", tuple(cameras), person=900006, performance=3, room=5,
        codecs=("h264", "hevc", "av1"), qualities=(27, 28, 38),
    )  # fmt: skip


def phone() -> TakeOptions:
    """One upright phone picture; its focal length is for densefit to find out."""
    camera = look_at("phone", (0.06, 0.02, 0.52), (480, 640), 590.0)
    return TakeOptions(
        "phone", (camera,), person=900011, performance=8, room=9, turn=0.5, calibrated=False,
        qualities=(26,),
    )  # fmt: skip


def render_take(out: Path, options: TakeOptions, head: HeadModel | None = None) -> None:
    """Render a take into the folder `out`.

    truth.npz holds identity (K,), expression (T, 52), rotation (T, 3), translation (T, 3),
    joints (T, 4, 3), time (T,), and for each camera `landmarks_px_<name>` (T, 703, 2) and
    `visible_<name>` (T, 703); formats and frames are those of fit.npz. The landmarks are rounded
    to 1/64 px; they follow exactly from the other arrays, the head model and the rig.
    """
    head = head or load_head()
    out = ensure_out_dir(out)
    renderer = Renderer(head)
    stage = Stage(renderer, options)
    truth: dict[str, np.ndarray] = stage.truth()
    count = len(stage.performance.time)
    with progress(count * len(options.cameras), options.name, unit="frames") as bar:
        for k, camera in enumerate(options.cameras):
            path = out / f"{camera.name}.mp4"
            with atomic_path(path) as temporary:
                writer = _Encoder(
                    temporary, camera, options.fps, options.codecs[k], options.qualities[k]
                )
                labels = []
                for start in range(0, count, CHUNK):
                    index = torch.arange(start, min(start + CHUNK, count))
                    frames, landmarks, visible = stage.shoot(camera, index)
                    for frame in frames:
                        writer.write(frame)
                    labels.append((landmarks, visible))
                    bar.advance(len(index))
                writer.close()
            truth[f"landmarks_px_{camera.name}"] = np.concatenate([a for a, _ in labels])
            truth[f"visible_{camera.name}"] = np.concatenate([b for _, b in labels])
    write_truth(out / "truth.npz", truth)
    _write_description(out, options)


def write_truth(path: Path, truth: dict[str, np.ndarray]) -> None:
    """Write truth.npz compressed, landmarks rounded to 1/64 px: samples travel in the wheel."""
    small = {
        name: np.round(array * 64) / 64 if name.startswith("landmarks_px") else array
        for name, array in truth.items()
    }
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **small)


def _write_description(out: Path, options: TakeOptions) -> None:
    lines = ["rig: rig.yaml"] if options.calibrated else []
    lines += ["cameras:"] + [f"  {c.name}: {c.name}.mp4" for c in options.cameras]
    write_text(out / "take.yaml", "\n".join(lines) + "\n")
    if options.calibrated:
        cameras = {camera.name: camera for camera in options.cameras}
        write_rig(out / "rig.yaml", Rig(cameras=cameras, up=np.array([0.0, 1.0, 0.0])))


class Stage:
    """The person, the room and the performance; shoots frames for any camera."""

    def __init__(self, renderer: Renderer, options: TakeOptions) -> None:
        self.renderer, self.options = renderer, options
        self.performance = perform(options.seconds, options.fps, options.performance, options.turn)
        generator = torch.Generator().manual_seed(options.person)
        scene = sample_scene(1, generator, renderer.head.identity_count, renderer.root_counts)
        # Somebody ordinary: the far ends of the prior are for training.
        people = replace(scene.people, identity=0.8 * scene.people.identity)
        self.scene = replace(scene, people=people)
        self.room = make_room(options.room)
        self.light, self.gain = _room_light(self.room)
        self.noise = np.random.default_rng(options.person)

    def truth(self) -> dict[str, np.ndarray]:
        """What a fit of this take should find."""
        p = self.performance
        expression = self.renderer.head.with_gaze(p.expression, p.joints)
        return {
            "identity": self.scene.people.identity[0].numpy().astype(np.float64),
            "expression": expression,
            "rotation": p.rotation,
            "translation": p.translation,
            "joints": p.joints,
            "time": p.time,
            "landmarks_version": np.array(self.renderer.head.landmarks_version),
        }

    def shoot(
        self, camera: Camera, index: Tensor
    ) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Frames (H, W, 3) uint8, landmarks (n, 703, 2) float32 px and visible (n, 703)."""
        scene, views, shift = self._set(camera, index)
        size = max(camera.width, camera.height)
        batch = self.renderer.render(scene, size, views=views)
        x, y = shift
        rgba = batch.rgba[:, :, y : y + camera.height, x : x + camera.width].float() / 255
        behind = self._background(camera)
        landmarks = batch.landmarks_px.numpy() - np.array(shift, np.float32)
        inside = (landmarks >= -0.5).all(-1) & (
            landmarks < np.array([camera.width, camera.height]) - 0.5
        ).all(-1)
        frames = []
        for picture in rgba:
            flat = torch.lerp(behind, picture[:3], picture[3:]).permute(1, 2, 0).numpy()
            grain = self.noise.normal(0, NOISE, flat.shape) * (0.5 + flat)
            frames.append(np.clip((flat + grain) * 255 + 0.5, 0, 255).astype(np.uint8))
        return frames, landmarks, batch.visible.numpy() & inside

    def _set(self, camera: Camera, index: Tensor) -> tuple[Scene, Views, tuple[int, int]]:
        """The scene at some frames, seen by a square picture that contains the camera's."""
        p, count = self.performance, len(index)
        T = np.asarray(camera.T_camera_world)
        turned = T[:3, :3] @ rotation_matrix(p.rotation[index.numpy()])
        moved = p.translation[index.numpy()] @ T[:3, :3].T + T[:3, 3]
        size = max(camera.width, camera.height)
        shift = (size - camera.width) // 2, (size - camera.height) // 2
        K = np.array(camera.K)
        K[:2, 2] += shift
        views = Views(
            torch.tensor(turned, dtype=torch.float32),
            torch.tensor(moved, dtype=torch.float32),
            torch.tensor(K, dtype=torch.float32).expand(count, 3, 3).clone(),
        )
        scene = rows(replace(self.scene, light=self.light), torch.zeros(count, dtype=torch.long))
        to_world = torch.tensor(T[:3, :3].T @ np.diag([1.0, -1, -1]), dtype=torch.float32)
        light = replace(scene.light, rotation=to_world.expand(count, 3, 3).contiguous())
        people = People(
            scene.people.identity,
            torch.tensor(p.expression[index.numpy()], dtype=torch.float32),
            torch.tensor(p.joints[index.numpy()], dtype=torch.float32),
            torch.zeros_like(scene.people.tongue),
        )
        return replace(scene, light=light, people=people), views, shift

    def _background(self, camera: Camera) -> Tensor:
        """The room as the camera sees it, (3, H, W) display values."""
        import cv2

        y, x = np.mgrid[: camera.height, : camera.width].astype(np.float64)
        pixels = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(np.asarray(camera.K)).T
        ray = pixels @ np.asarray(camera.T_camera_world)[:3, :3]
        ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
        height, width = self.room.shape[:2]
        column = (np.arctan2(ray[..., 0], ray[..., 2]) / (2 * np.pi) + 0.5) * width - 0.5
        row = np.arccos(ray[..., 1]) / np.pi * height - 0.5
        seen = cv2.remap(
            self.room, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )  # fmt: skip
        linear = torch.tensor(seen).permute(2, 0, 1)[None] * self.gain[:, :, None, None]
        return tone_map(linear * self.light.exposure[:, None, None, None], self.light.contrast)[0]


def _room_light(room: np.ndarray) -> tuple[Light, Tensor]:
    """The room as light, metered for a face that looks along +z, and the gain (1, 3)."""
    import cv2

    small = cv2.resize(room, (64, 32), interpolation=cv2.INTER_AREA)
    panorama, sun, color = take_out_sun(torch.tensor(small).permute(2, 0, 1)[None])
    one = torch.ones(1)
    camera = Metering(sun=0.9 * one, balance=0.85 * one, exposure=0.85 * one, contrast=1.0 * one)
    sh = irradiance_coefficients(panorama)
    return metered(camera, panorama, sh, sun, color, torch.eye(3)[None])


class _Encoder:
    """Writes RGB frames with one of several codecs."""

    def __init__(self, path: Path, camera: Camera, fps: float, codec: str, quality: int) -> None:
        import av

        self.container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        rate = Fraction(fps).limit_denominator(1001)
        options = {"crf": str(quality), "preset": "8" if codec == "av1" else "medium"}
        if codec == "hevc":
            options["x265-params"] = "log-level=none"
        stream: Any = self.container.add_stream(ENCODERS[codec], rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = camera.width, camera.height, "yuv420p"
        self.stream, self.rate, self.count = stream, rate, 0

    def write(self, rgb: np.ndarray) -> None:
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, frame.time_base = self.count, 1 / self.rate
        self.count += 1
        with kept_policy():
            packets = self.stream.encode(frame)
        self.container.mux(packets)

    def close(self) -> None:
        self.container.mux(self.stream.encode(None))
        self.container.close()
