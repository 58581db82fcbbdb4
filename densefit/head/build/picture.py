"""Draws a head with its landmarks: `python -m densefit.head.build.picture docs/head.png`.

`--people` draws random people of the prior instead, `--expressions` the shapes at full strength,
`--registration` the template laid onto the mean of the scans; `--model` takes another head, such as
an imported one, whose landmarks show how well the registration carried them over.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densefit.head.build.mesh import cast, raycaster
from densefit.head.model import EXPRESSION_INDEX, HeadModel, load_head, twin

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

    solid = head.triangle_part != head.part_names.index("lashes")
    triangles, part = head.triangles[solid], head.triangle_part[solid]
    colours = np.array([PART_COLOURS[head.part_names[p]] for p in part])
    picture, depth = shade(vertices, triangles, colours, view, size)
    right, up, back = view.axes()
    rng = np.random.default_rng(3)
    palette = rng.integers(30, 220, (len(head.region_names), 3))
    points = head.landmarks(vertices) - view.centre
    pixel = (np.stack([points @ right, -(points @ up)], 1) / view.half + 1) / 2 * size - 0.5
    for i, (px, py) in enumerate(pixel if landmarks else ()):
        if not (0 <= px < size and 0 <= py < size):
            continue
        seen = points[i] @ back > 0.5 - depth[int(py), int(px)] - 1.5e-3
        centre = (round(float(px) * 8), round(float(py) * 8))
        tone = tuple(int(c) for c in palette[head.landmark_region[i]])
        cv2.circle(picture, centre, 28, tone, -1 if seen else 1, cv2.LINE_AA, 3)
    return picture


def shade(
    vertices: Array, triangles: Array, colours: Array, view: View, size: int, edges: bool = False
) -> tuple[Array, Array]:
    """A picture (size, size, 3) uint8 and the distance (size, size) of what is seen, in metres.

    Args:
        colours: (F, 3) of the triangles, 0 to 255.
        edges: also draw the triangles' edges.
    """
    right, up, back = view.axes()
    grid = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(grid * view.half, -grid * view.half)
    origin = np.array(view.centre) + x[..., None] * right + y[..., None] * up + 0.5 * back
    hit = cast(raycaster(vertices, triangles), origin, -back)
    found = np.isfinite(hit["t_hit"])
    triangle = np.where(found, hit["primitive_ids"], 0).astype(np.int64)
    corners = vertices[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    lit = (colours * (0.3 + 0.7 * np.abs(normal @ back))[:, None])[triangle]
    if edges:
        uv = hit["primitive_uvs"]
        nearest = np.minimum(uv.min(-1), 1 - uv.sum(-1))
        lit = np.where((nearest < 0.04)[..., None], 0.55 * lit, lit)
    return np.where(found[..., None], lit, 255).astype(np.uint8), hit["t_hit"]


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


def expression_sheet(head: HeadModel, size: int) -> Array:
    """Every shape at full strength, those of a left side with their right twins: eight a row,
    named, (rows * size, 8 * size, 3) uint8 RGB."""
    import cv2

    view = View((0, -0.035, 0.05), (0.45, 0, 1), 0.09)
    tiles = []
    for name, index in EXPRESSION_INDEX.items():
        expression = np.zeros((1, len(EXPRESSION_INDEX)), np.float32)
        expression[0, index] = 1
        # Jaw and mouth go to one side as a whole: both ways are shown.
        if not name.startswith(("jaw", "mouthLeft", "mouthRight")):
            if name.endswith("Right"):
                continue
            expression[0, EXPRESSION_INDEX[twin(name)]] = 1
        # The eyeLook shapes follow the eye joints elsewhere; here they show what the lids do.
        vertices = head.shapes(np.zeros(head.identity_count), expression)[0].astype(np.float64)
        tile = np.ascontiguousarray(draw(head, vertices, view, size, landmarks=False))
        cv2.putText(tile, name, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 8)
    return np.vstack([np.hstack(tiles[i : i + 8]) for i in range(0, len(tiles), 8)])


FAR = 1e-3
"""Metres: distance that is drawn in full red."""


def registration(head: HeadModel, ict_folder: Path, size: int) -> Array:
    """The scans' mean, our template laid onto it, and how far apart they are (green 0, red 1 mm).

    Returns:
        (2 * size, 3 * size, 3) uint8 RGB: from the front, and from the side.
    """
    from densefit.head.build.anatomy import EYE_RADIUS
    from densefit.head.build.assemble import CORNEA_PROUD
    from densefit.head.build.ict import read_ict
    from densefit.head.build.mesh import closest

    ict = read_ict(ict_folder)
    origin = ict.eye_centres().mean(0)
    origin[2] += ict.eye_radius() - EYE_RADIUS + CORNEA_PROUD
    mean = ict.neutral[: ict.skin.max() + 1] - origin
    skin = head.triangles[head.part_triangles("skin", "ears", "scalp", "neck", "mouth")]
    template = head.template.astype(np.float64)
    nearest = closest(raycaster(template, skin), mean)[0]
    share = np.clip(np.linalg.norm(mean - nearest, axis=1) / FAR, 0, 1)[ict.skin].mean(1)
    heat = np.array([90, 200, 90]) + share[:, None] * np.array([140, -150, -50])
    plain = np.array(PART_COLOURS["skin"])
    rows = []
    for view in VIEWS[:2]:
        tiles = [
            shade(mean, ict.skin, np.tile(plain, (len(ict.skin), 1)), view, size)[0],
            shade(template, skin, np.tile(plain, (len(skin), 1)), view, size, edges=True)[0],
            shade(mean, ict.skin, heat, view, size)[0],
        ]
        rows.append(np.hstack(tiles))
    return np.vstack(rows)


def main() -> None:
    """Write the picture."""
    import cv2

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="head model; default: the shipped one")
    parser.add_argument("--people", type=int, help="draw so many random people (in rows of 8)")
    parser.add_argument("--expressions", action="store_true", help="draw the 52 shapes")
    parser.add_argument(
        "--registration", type=Path, help="ICT-FaceKit's folder: draw the fit to it"
    )
    parser.add_argument("--size", type=int, help="of one of the views, pixels")
    options = parser.parse_args()
    head = load_head(options.model)
    if options.people:
        sheet = contact_sheet(head, options.people, options.size or 200)
    elif options.expressions:
        sheet = expression_sheet(head, options.size or 160)
    elif options.registration:
        sheet = registration(head, options.registration, options.size or 420)
    else:
        tiles = [draw(head, head.template, view, options.size or 720) for view in VIEWS]
        sheet = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
    cv2.imwrite(str(options.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
