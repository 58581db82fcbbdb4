"""The coverage picture: where the board's corners fell in each camera, and how well they fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.atomic import atomic_path
from calibration.calibrate import Calibration
from calibration.quality import CELLS, covered_cells

_WIDTH = 640
_COLUMNS = 3
_BACK, _GRID, _EMPTY, _TEXT = (250, 250, 250), (215, 215, 215), (205, 205, 250), (40, 40, 40)
# Arrows show residuals this much enlarged.
_ENLARGED = 50.0


def write_coverage(path: str | Path, calibration: Calibration) -> None:
    """Write the picture, one panel a camera: corners from green (fits) to red, residuals enlarged,
    cells without any corner in red."""
    import cv2

    panels = [_panel(calibration, name) for name in calibration.rig.cameras]
    height = max(panel.shape[0] for panel in panels)
    panels = [
        cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=_BACK)
        for p in panels
    ]
    columns = min(_COLUMNS, len(panels))
    while len(panels) % columns:
        panels.append(np.full_like(panels[0], 250))
    rows = [cv2.hconcat(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.vconcat(rows)):
            raise OSError(f"{path}: cannot be written as a picture")


def _panel(calibration: Calibration, name: str) -> np.ndarray:
    import cv2

    camera = calibration.rig.cameras[name]
    scale = (_WIDTH - 20) / camera.width
    height = round(camera.height * scale)
    panel = np.full((height + 50, _WIDTH, 3), _BACK, np.uint8)
    origin = np.array([10, 40])
    counts = covered_cells(calibration, name)
    for row in range(CELLS[1]):
        for column in range(CELLS[0]):
            a = (
                origin
                + np.array([column * camera.width / CELLS[0], row * camera.height / CELLS[1]])
                * scale
            )
            b = a + np.array([camera.width / CELLS[0], camera.height / CELLS[1]]) * scale
            corners = tuple(np.rint(a).astype(int).tolist()), tuple(np.rint(b).astype(int).tolist())
            if counts[row, column] == 0:
                cv2.rectangle(panel, *corners, _EMPTY, -1)
            cv2.rectangle(panel, *corners, _GRID, 1)
    rows = calibration.corners.camera == list(calibration.rig.cameras).index(name)
    xy = origin + (calibration.corners.xy[rows] + 0.5) * scale
    residuals = calibration.residuals[rows]
    unit = max(3 * calibration.sigma, 1e-6)
    for at, residual, out in zip(xy, residuals, calibration.outliers[rows], strict=True):
        bad = min(float(np.linalg.norm(residual)) / unit, 1.0)
        colour = (200, 0, 200) if out else (0, round(170 * (1 - bad)), round(230 * bad))
        start = tuple(np.rint(at).astype(int).tolist())
        tip = at + (0 if out else 1) * residual * _ENLARGED * scale
        cv2.line(panel, start, tuple(np.rint(tip).astype(int).tolist()), colour, 1, cv2.LINE_AA)
        cv2.circle(panel, start, 2, colour, -1, cv2.LINE_AA)
    title = (
        f"{name}: rms {calibration.camera_rms(name):.3f} px, {(counts > 0).mean():.0%} covered, "
        f"residuals x{_ENLARGED:.0f}"
    )
    cv2.putText(panel, title, (10, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _TEXT, 1, cv2.LINE_AA)
    return panel
