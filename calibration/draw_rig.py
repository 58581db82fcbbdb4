"""A rig as a picture (three views) and as a page that can be turned with the mouse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from calibration.atomic import atomic_path
from calibration.camera import Camera
from calibration.geometry import placed_cameras, rig_geometry
from calibration.rig import Rig

_PANEL = 560
_COLOURS = (
    (200, 90, 20),
    (30, 130, 30),
    (30, 30, 200),
    (170, 40, 150),
    (20, 140, 190),
    (90, 90, 90),
)
_HEAD_RADIUS = 0.09
# Frusta are drawn to this share of the way to the target.
_FRUSTUM = 0.25

Lines = list[tuple[np.ndarray, tuple[int, int, int]]]
"""Polylines (N, 3) in metres, upright axes, with their colour (blue, green, red)."""


def _upright(up: np.ndarray) -> np.ndarray:
    """(3, 3) rotation that turns `up` into +z."""
    z = up / np.linalg.norm(up)
    x = np.cross([0.0, 1, 0] if abs(z[1]) < 0.9 else [0.0, 0, 1], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def _frustum(camera: Camera, length: float) -> list[np.ndarray]:
    """The edges of a camera's view as polylines in the world."""
    assert camera.K is not None and camera.T_camera_world is not None
    corner = (
        np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * [camera.width, camera.height] - 0.5
    )
    rays = (corner - camera.K[:2, 2]) / camera.K[[0, 1], [0, 1]]
    local = np.column_stack([rays, np.ones(5)]) * length
    R, centre = camera.T_camera_world[:3, :3], camera.position
    world = local @ R + centre
    # A little roof shows which side of the picture is up.
    roof = np.array([local[0], [0, 1.35 * local[0, 1], length], local[1]]) @ R + centre
    return [world, roof, *(np.stack([centre, point]) for point in world[:4])]


def _scene(rig: Rig) -> tuple[Lines, list[tuple[np.ndarray, str, tuple[int, int, int]]]]:
    """All lines and labels in upright axes (+z up) about the head."""
    geometry = rig_geometry(rig)
    turn = _upright(geometry.up)
    distance = float(np.median(np.linalg.norm(geometry.positions - geometry.target, axis=1)))
    lines: Lines = []
    labels = []
    for i, camera in enumerate(placed_cameras(rig)):
        colour = _COLOURS[i % len(_COLOURS)]
        for line in _frustum(camera, _FRUSTUM * distance):
            lines.append(((line - geometry.target) @ turn.T, colour))
        axis = np.stack([camera.position, camera.position + geometry.forward[i] * distance])
        lines.append(((axis - geometry.target) @ turn.T, (205, 205, 205)))
        labels.append(((camera.position - geometry.target) @ turn.T, camera.name, colour))
    angle = np.linspace(0, 2 * np.pi, 33)
    circle = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    for order in ((0, 1, 2), (0, 2, 1), (2, 0, 1)):
        lines.append((_HEAD_RADIUS * circle[:, order], (60, 60, 60)))
    labels.append((np.array([0, 0, 1.3 * _HEAD_RADIUS]), "head", (60, 60, 60)))
    return lines, labels


def write_rig_png(path: str | Path, rig: Rig) -> None:
    """Write the rig from above, from in front and from the side."""
    import cv2

    lines, labels = _scene(rig)
    extent = max(float(np.abs(line).max()) for line, _ in lines) * 1.12
    panels = []
    for title, axes, sign in (
        ("from above", (0, 1), (1, -1)),
        ("from the side", (1, 2), (1, -1)),
        ("from behind", (0, 2), (1, -1)),
    ):
        panel = np.full((_PANEL, _PANEL, 3), 255, np.uint8)

        def place(points: np.ndarray, axes: tuple = axes, sign: tuple = sign) -> np.ndarray:
            flat = points[..., list(axes)] * np.array(sign)
            return np.rint((flat / extent + 1) / 2 * (_PANEL - 1)).astype(np.int32)

        for line, colour in lines:
            cv2.polylines(panel, [place(line)], False, colour, 1, cv2.LINE_AA)
        for point, text, colour in labels:
            x, y = place(point).tolist()
            cv2.circle(panel, (x, y), 3, colour, -1, cv2.LINE_AA)
            cv2.putText(panel, text, (x + 5, y - 5), 0, 0.45, colour, 1, cv2.LINE_AA)
        scale = _nice(extent / 2)
        pixels = round(scale / extent / 2 * (_PANEL - 1))
        cv2.line(panel, (12, _PANEL - 14), (12 + pixels, _PANEL - 14), (0, 0, 0), 2)
        caption = f"{title}, bar {scale:g} m"
        cv2.putText(panel, caption, (12, _PANEL - 22), 0, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        panels.append(panel)
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.hconcat(panels)):
            raise OSError(f"{path}: cannot be written as a picture")


def _nice(length: float) -> float:
    """1, 2 or 5 times a power of ten, at most `length`."""
    power = 10.0 ** np.floor(np.log10(max(length, 1e-9)))
    return float(max(m * power for m in (1, 2, 5) if m * power <= length))


def write_rig_html(path: str | Path, rig: Rig, text: list[str]) -> None:
    """Write a page without any outside parts: the rig, turned by dragging, and lines of text."""
    lines, labels = _scene(rig)
    data = {
        "lines": [[np.round(p, 5).tolist(), _css(colour)] for p, colour in lines],
        "labels": [[np.round(p, 5).tolist(), name, _css(colour)] for p, name, colour in labels],
    }
    # "</" inside a script would end it.
    scene = json.dumps(data).replace("</", "<\\/")
    page = _PAGE.replace("@SCENE@", scene).replace("@TEXT@", _escape("\n".join(text)))
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def is_rig_html(path: str | Path) -> bool:
    """Whether a file is a page of `write_rig_html`, as far as its beginning tells."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        text = stream.read(2000).decode("utf-8", errors="replace")
    return text.startswith(_PAGE[: _PAGE.index("<style>")]) and '<canvas id="view">' in text


def _css(colour: tuple[int, int, int]) -> str:
    return f"rgb({colour[2]},{colour[1]},{colour[0]})"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Rig</title>
<style>body{margin:0;font:14px sans-serif;color:#222}canvas{width:100vw;height:70vh;display:block;
cursor:grab;touch-action:none}pre{margin:12px 16px;overflow:auto}</style>
<canvas id="view"></canvas><pre>@TEXT@</pre>
<script>
const scene = @SCENE@;
const canvas = document.getElementById("view"), pen = canvas.getContext("2d");
let yaw = 0.6, pitch = 0.5, zoom = 1;
const extent = Math.max(...scene.lines.flatMap(l => l[0].flat().map(Math.abs)));
function place(p) {
  const x = p[0] * Math.cos(yaw) - p[1] * Math.sin(yaw);
  const y = p[0] * Math.sin(yaw) + p[1] * Math.cos(yaw);
  const up = p[2] * Math.cos(pitch) + y * Math.sin(pitch);
  const s = zoom * 0.42 * Math.min(canvas.width, canvas.height) / extent;
  return [canvas.width / 2 + s * x, canvas.height / 2 - s * up];
}
function draw() {
  const r = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * r; canvas.height = canvas.clientHeight * r;
  pen.lineWidth = r; pen.font = 13 * r + "px sans-serif";
  for (const [points, colour] of scene.lines) {
    pen.strokeStyle = colour; pen.beginPath();
    points.forEach((p, i) => pen[i ? "lineTo" : "moveTo"](...place(p)));
    pen.stroke();
  }
  for (const [p, name, colour] of scene.labels) {
    const [x, y] = place(p);
    pen.fillStyle = colour; pen.fillText(name, x + 6 * r, y - 6 * r);
  }
}
canvas.onpointerdown = e => canvas.setPointerCapture(e.pointerId);
canvas.onpointermove = e => {
  if (!e.buttons) return;
  yaw += e.movementX * 0.008;
  pitch = Math.max(-1.57, Math.min(1.57, pitch + e.movementY * 0.008));
  draw();
};
canvas.onwheel = e => { e.preventDefault(); zoom *= Math.exp(-e.deltaY * 0.001); draw(); };
window.onresize = draw; draw();
</script></html>
"""
