"""True shape of real heads: `python benchmarks/scanned_heads.py DATA [--make-mediapipe DIR]`.

DATA/heads holds scans of two people with photographed skin (james, lee_perry_smith). Each is shown
to cameras around it under three lights; faces are found and fitted from one camera or several, and
measured by NoW's protocol (see `densefit.evaluate.now`): distances of the scan's face to the fitted
head, with its own size and aligned with scale. Peers are the mean head and, from one picture,
MediaPipe Face Mesh, whose size means nothing. Skin is real, light is not: what is photographed in
the skin's shadows is lit once more.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import mediapipe_peer
import numpy as np

from calibration import Camera
from densefit.evaluate.now import IBUG_POINTS, NowOptions, crop_centre, scan_errors, seven_points
from densefit.evaluate.scans import Surface as ScannedHead
from densefit.evaluate.scans import face_samples, real_heads
from densefit.evaluate.surfaces import Distances, Surface, procrustes
from densefit.fit import FitOptions, Observations, fit
from densefit.head import load_head
from densefit.head.build.mesh import vertex_normals
from densefit.head.model import HeadModel
from densefit.landmarks.look import Sighting
from densefit.landmarks.predictor import PredictOptions, make_tracker
from densefit.synth.take import look_at

FILES = {
    "james": ("james.obj", "james.jpg", True),
    "lee_perry_smith": ("LeePerrySmith.glb", "color.jpg", False),
}
"""Mesh, its skin, and whether its places in the skin count from below."""
FACE_RADIUS, POINTS = 0.07, 6000
"""Metres about NoW's centre: from the brows to the chin, as hair and collars are in these scans."""
SIZE, FOCAL, DISTANCE, SUPERSAMPLE = 768, 1900.0, 0.9, 2
YAWS = (-60, -40, -20, 0, 20, 40, 60)
LIGHTS = ((0.0, 0.0, 1.0, 1.0), (0.5, 0.3, 0.8, 0.45), (-0.7, 0.5, 0.5, 0.35))
"""Direction towards the light (head frame), and how much of it comes from everywhere."""
CAMERAS = {"three cameras, 40 degrees apart": (-40, 0, 40), "three, 20 apart": (-20, 0, 20)}
GAMMA, EXPOSURE, BACKGROUND = 2.2, 1.3, 0.18
MEDIAPIPE_SEVEN = [33, 133, 362, 263, 2, 61, 291]
"""The seven landmarks among Face Mesh's points."""


@dataclass(frozen=True)
class Textured:
    """A scan in the head frame (metres) with the picture of its skin."""

    name: str
    vertices: np.ndarray
    triangles: np.ndarray
    corners: np.ndarray
    """(F, 3, 2) places of the triangles' corners in the picture, px."""
    skin: np.ndarray
    """(H, W, 3) uint8 BGR."""
    seven: np.ndarray
    """(7, 3) NoW's landmarks."""
    face: np.ndarray
    """(N, 3) points all over the face."""


def load_textured(folder: Path, scan: ScannedHead, head: HeadModel) -> Textured:
    """A scan and its skin, turned so that it faces as the template does."""
    import open3d as o3d

    mesh_file, picture, from_below = FILES[scan.name]
    mesh = o3d.io.read_triangle_mesh(folder / scan.name / mesh_file)
    vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    vertices = vertices * (np.ptp(scan.vertices[:, 1]) / np.ptp(vertices[:, 1]))
    known = np.isfinite(scan.landmarks[:, 0])
    template = head.landmarks(head.template)[head.ibug68].astype(np.float64)
    pose = procrustes(scan.landmarks[known], template[known], with_scale=False)
    skin = cv2.imread(str(folder / scan.name / picture))
    corners = np.asarray(mesh.triangle_uvs).reshape(-1, 3, 2)
    if from_below:
        corners = [0, 1] + corners * [1, -1]
    seven = pose.apply(scan.landmarks[list(IBUG_POINTS)])
    face = pose.apply(face_samples(scan, POINTS).points)
    face = face[np.linalg.norm(face - crop_centre(seven), axis=1) < FACE_RADIUS]
    corners = corners * skin.shape[1::-1] - 0.5
    return Textured(scan.name, pose.apply(vertices), triangles, corners, skin, seven, face)


class Studio:
    """Photographs one scan."""

    def __init__(self, head: Textured) -> None:
        import open3d as o3d

        self.head = head
        self.scene = o3d.t.geometry.RaycastingScene()
        self.scene.add_triangles(
            o3d.core.Tensor(head.vertices.astype(np.float32)),
            o3d.core.Tensor(head.triangles.astype(np.uint32)),
        )
        self.normals = vertex_normals(head.vertices, head.triangles)
        middle = head.seven.mean(axis=0) - [0, 0.01, 0.02]
        self.cameras = {yaw: _camera(yaw, middle) for yaw in YAWS}

    def picture(self, camera: Camera, light: tuple[float, ...]) -> np.ndarray:
        """(SIZE, SIZE, 3) uint8 RGB."""
        import open3d as o3d

        at = (np.arange(SIZE * SUPERSAMPLE) + 0.5) / SUPERSAMPLE - 0.5
        x, y = np.meshgrid(at, at)
        assert camera.K is not None and camera.T_camera_world is not None
        turn, move = camera.T_camera_world[:3, :3], camera.T_camera_world[:3, 3]
        way = np.stack([(x - camera.K[0, 2]) / FOCAL, (y - camera.K[1, 2]) / FOCAL, x * 0 + 1], -1)
        way = way @ turn
        rays = np.concatenate([np.broadcast_to(-turn.T @ move, way.shape), way], -1)
        hits = self.scene.cast_rays(o3d.core.Tensor(rays.astype(np.float32)))
        found = np.isfinite(hits["t_hit"].numpy())
        triangle = np.where(found, hits["primitive_ids"].numpy(), 0).astype(np.int64)
        uv = hits["primitive_uvs"].numpy()
        shares = np.concatenate([1 - uv.sum(-1, keepdims=True), uv], -1)[..., None]
        place = (self.head.corners[triangle] * shares).sum(-2).astype(np.float32)
        colour = cv2.remap(self.head.skin, *np.moveaxis(place, -1, 0), cv2.INTER_LINEAR)
        normal = (self.normals[self.head.triangles[triangle]] * shares).sum(-2)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
        towards, ambient = np.array(light[:3]), light[3]
        lit = ambient + (1 - ambient) * (normal @ towards / np.linalg.norm(towards)).clip(0)
        linear = EXPOSURE * (colour / 255.0) ** GAMMA * lit[..., None]
        linear = np.where(found[..., None], linear, BACKGROUND)
        linear = cv2.resize(linear, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        return (255 * linear.clip(0, 1) ** (1 / GAMMA)).astype(np.uint8)[..., ::-1].copy()


def _camera(yaw: int, target: np.ndarray) -> Camera:
    angle = np.deg2rad(yaw)
    place = target + DISTANCE * np.array([np.sin(angle), 0.05, np.cos(angle)])
    return look_at(f"{yaw}", tuple(place), (SIZE, SIZE), FOCAL, tuple(target))


def shape(head: HeadModel, cameras: list[Camera], faces: list[Sighting]) -> Surface:
    """The fitted head of one moment, as it looks in it, in its own frame."""
    seen = Observations(
        np.stack([face.xy for face in faces])[None], np.stack([face.sigma for face in faces])[None],
        np.ones((1, len(faces)), bool), np.zeros(1),
    )  # fmt: skip
    found = fit(head, cameras, seen, FitOptions())
    vertices = head.vertices(found.identity, found.expression, found.joints)[0]
    return Surface(vertices.astype(np.float64), _outside(head))


def _outside(head: HeadModel) -> np.ndarray:
    return head.triangles[head.part_triangles("skin", "ears", "scalp", "neck", "eyes", "iris")]


class Scores:
    """Distances in mm by kind of result, with the head's own size and with a fitted one."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, bool], list[np.ndarray]] = {}

    def add(self, kind: str, scan: Textured, mesh: Surface, seven: np.ndarray, own: bool) -> None:
        """Measure a mesh; own: its size means something."""
        truth = Surface(1e3 * scan.face, scan.triangles[:0])
        for metrical in (True, False) if own else (False,):
            options = NowOptions(metrical=metrical, unit="m")
            errors = scan_errors(truth, 1e3 * scan.seven, mesh, seven, options)
            self.found.setdefault((kind, metrical), []).append(errors)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Median, mean and deviation of each kind, printed."""
        for (kind, metrical), parts in self.found.items():
            table = Distances(np.concatenate(parts)).table()
            size = "own size" if metrical else "scaled"
            figures = "  ".join(f"{name} {value:5.2f}" for name, value in table.items())
            print(f"{kind:36s} {size:9s} {figures} mm  ({len(parts)})")
            for name, value in table.items():
                yield {"name": f"{kind}, {size}, {name}", "value": value, "unit": "mm",
                       "peer": None, "peer_value": None}  # fmt: skip


def measure(
    data: Path, python: str | None, options: PredictOptions, pictures_out: Path | None
) -> Scores:
    """Photograph, find, fit and compare."""
    head, scores = load_head(options.model), Scores()
    tracker = make_tracker(head, options)
    for scan in real_heads(data / "heads", head):
        textured = load_textured(data / "heads", scan, head)
        studio = Studio(textured)
        mean = Surface(head.template.astype(np.float64), _outside(head))
        scores.add("mean head", textured, mean, seven_points(head, mean.vertices), own=True)
        taken = [[studio.picture(c, light) for c in studio.cameras.values()] for light in LIGHTS]
        if pictures_out is not None:
            _keep(pictures_out, scan.name, taken)
        for pictures in taken:
            faces = dict(zip(YAWS, tracker.find(pictures, film=False), strict=True))
            groups = {f"one camera at {abs(yaw)} degrees": (yaw,) for yaw in (0, 20, 40)}
            for kind, yaws in [*groups.items(), *CAMERAS.items()]:
                seen = [face for yaw in yaws if (face := faces[yaw]) is not None]
                if len(seen) == len(yaws):
                    mesh = shape(head, [studio.cameras[yaw] for yaw in yaws], seen)
                    scores.add(kind, textured, mesh, seven_points(head, mesh.vertices), own=True)
        if python is not None:
            _mediapipe(scores, textured, taken, python)
    return scores


def _mediapipe(scores: Scores, scan: Textured, taken: list[list[np.ndarray]], python: str) -> None:
    """Face Mesh's points from the same single pictures, turned to y up."""
    triangles = mediapipe_peer.mesh_triangles(python)
    for yaw in (0, 20, 40):
        stack = np.stack([pictures[YAWS.index(yaw)] for pictures in taken])
        answers, _ = mediapipe_peer.run_mediapipe(python, [stack], follow=False, depth=True)
        for points in answers[0][:, 0]:
            if np.isfinite(points).all():
                mesh = Surface(points[:468] * [1, -1, -1], triangles)
                seven = mesh.vertices[MEDIAPIPE_SEVEN]
                scores.add(f"MediaPipe at {yaw} degrees", scan, mesh, seven, own=False)


def _keep(folder: Path, name: str, taken: list[list[np.ndarray]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.concatenate([np.concatenate(pictures, 1) for pictures in taken])
    small = cv2.resize(rows, None, fx=0.35, fy=0.35, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / f"{name}.png"), small[..., ::-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, help="other networks than the shipped ones")
    parser.add_argument("--pictures", type=Path, help="folder to keep what was photographed in")
    parser.add_argument("--json", type=Path)
    mediapipe_peer.add_options(parser)
    chosen = parser.parse_args()
    options = PredictOptions(weights=chosen.weights)
    python = mediapipe_peer.peer_python(chosen)
    rows = list(measure(chosen.data, python, options, chosen.pictures).rows())
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
