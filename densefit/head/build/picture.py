"""Draws a head with its landmarks: `python -m densefit.head.build.picture docs/head.png`.

`--people` draws random people of the prior instead; `--model` another head, such as an imported
one, whose landmarks show how well the registration carried them over.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densefit.head.build.mesh import cast, raycaster
from densefit.head.model import HeadModel, load_head

Array = np.ndarray[Any, np.dtype[Any]]

PART_COLOURS = {
    "skin": (255, 222, 205), "ears": (255, 214, 196), "scalp": (196, 180, 168),
    "neck": (244, 210, 194), "mouth": (190, 80, 80), "eyes": (240, 240, 240),
    "iris": (70, 120, 160), "pupil": (20, 20, 20), "teeth": (250, 244, 228),
    "gums": (210, 120, 120), "tongue": (226, 130, 130), "lashes": (60, 60, 60),
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """An orthographic view: what is in the middle (metres), from where, half the width (metres)."""

    centre: tuple[float, float, float]
    toward: tuple[float, float, float]
    half: float

    def axes(self) -> tuple[Array, Array, Array]:
        """Right, up and towards the viewer."""
        back = np.array(self.toward) / np.linalg.norm(self.toward)
        right = np.cross((0, 1, 0), back)
        right /= np.linalg.norm(right)
        return right, np.cross(back, right), back


VIEWS = (
    View((0, -0.02, 0), (0, 0, 1), 0.13),
    View((0, -0.02, -0.06), (1, 0, 0.1), 0.14),
    View((0.033, 0.004, 0), (0.05, 0, 1), 0.028),
    View((0, -0.062, 0), (0, 0, 1), 0.036),
)


def draw(head: HeadModel, vertices: Array, view: View, size: int, landmarks: bool = True) -> Array:
    """A shaded picture (size, size, 3) uint8 RGB; hidden landmarks are hollow."""
    import cv2

    right, up, back = view.axes()
    solid = head.triangle_part != head.part_names.index("lashes")
    triangles, part = head.triangles[solid], head.triangle_part[solid]
    grid = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(grid * view.half, -grid * view.half)
    origin = np.array(view.centre) + x[..., None] * right + y[..., None] * up + 0.5 * back
    hit = cast(raycaster(vertices, triangles), origin, -back)
    found = np.isfinite(hit["t_hit"])
    triangle = np.where(found, hit["primitive_ids"], 0).astype(np.int64)
    corners = vertices[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    light = 0.3 + 0.7 * np.abs(normal @ back)
    colour = np.array([PART_COLOURS[head.part_names[p]] for p in part]) * light[:, None]
    picture = np.where(found[..., None], colour[triangle], 255).astype(np.uint8)
    rng = np.random.default_rng(3)
    palette = rng.integers(30, 220, (len(head.region_names), 3))
    points = head.landmarks(vertices) - view.centre
    pixel = (np.stack([points @ right, -(points @ up)], 1) / view.half + 1) / 2 * size - 0.5
    for i, (px, py) in enumerate(pixel if landmarks else ()):
        if not (0 <= px < size and 0 <= py < size):
            continue
        seen = points[i] @ back > 0.5 - hit["t_hit"][int(py), int(px)] - 1.5e-3
        centre = (round(float(px) * 8), round(float(py) * 8))
        tone = tuple(int(c) for c in palette[head.landmark_region[i]])
        cv2.circle(picture, centre, 28, tone, -1 if seen else 1, cv2.LINE_AA, 3)
    return picture


TURNS = (0.0, 0.5, -0.6, 1.2)
"""Radians: the people of a contact sheet are seen from these sides in turn."""


def contact_sheet(head: HeadModel, people: int, size: int, seed: int = 7) -> Array:
    """Random people of the prior, eight a row: (rows * size, 8 * size, 3) uint8 RGB."""
    rng, tiles = np.random.default_rng(seed), []
    for i in range(people):
        vertices = head.neutral(rng.normal(size=head.identity_count)).astype(np.float64)
        turn = TURNS[i % len(TURNS)]
        view = View((0, -0.02, -0.03), (np.sin(turn), 0.05, np.cos(turn)), 0.15)
        tiles.append(draw(head, vertices, view, size, landmarks=False))
    return np.vstack([np.hstack(tiles[i : i + 8]) for i in range(0, people, 8)])


def main() -> None:
    """Write the picture."""
    import cv2

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="head model; default: the shipped one")
    parser.add_argument("--people", type=int, help="draw so many random people (in rows of 8)")
    parser.add_argument("--size", type=int, help="of one of the views, pixels")
    options = parser.parse_args()
    head = load_head(options.model)
    if options.people:
        sheet = contact_sheet(head, options.people, options.size or 200)
    else:
        tiles = [draw(head, head.template, view, options.size or 720) for view in VIEWS]
        sheet = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
    cv2.imwrite(str(options.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
