"""Charts as inline SVG: lines over time with bands, strips of what was seen, the rig."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626")
MAX_POINTS = 500
"""Of a line; longer takes are thinned to the extremes of each stretch."""

# px: charts that are lower or narrower have fewer marks.
_LOW, _NARROW = 90, 500


@dataclass(frozen=True)
class Line:
    """One curve; `band` is drawn as y - band to y + band."""

    label: str
    y: np.ndarray
    band: np.ndarray | None = None


@dataclass(frozen=True)
class ChartOptions:
    """Size and axis of a chart."""

    width: int = 860
    height: int = 180
    y_label: str = ""
    y_range: tuple[float, float] | None = None
    legend: bool = True
    joined: bool = True
    """Lines over seconds; else points over the number of the picture: nothing lies between them."""


def colour(number: int) -> str:
    """Of the number-th camera or curve."""
    return COLOURS[number % len(COLOURS)]


def line_chart(x: np.ndarray, lines: Sequence[Line], options: ChartOptions | None = None) -> str:
    """SVG of lines over x (T,), gaps where y is NaN."""
    options = options or ChartOptions()
    left, right, top, bottom = 46, 8, 22, 22  # names stand above, not on the curves
    width, height = options.width - left - right, options.height - top - bottom
    low, high = options.y_range or _range(lines)
    x0, x1 = float(x[0]), float(x[-1]) if x[-1] > x[0] else float(x[0]) + 1

    def px(values: np.ndarray) -> np.ndarray:
        return left + (values - x0) / (x1 - x0) * width

    def py(values: np.ndarray) -> np.ndarray:
        return top + (high - np.clip(values, low, high)) / (high - low) * height

    parts = [_open(options.width, options.height)]
    parts += _axes((left, top, width, height), (x0, x1), (low, high), options.joined)
    parts.append(f'<text x="{left}" y="14" class="label">{escape(options.y_label)}</text>')
    for number, line in enumerate(lines):
        stroke = colour(number)
        for rows in _segments(line.y, options.joined):
            rows = _thinned(line.y, rows)
            if line.band is not None:
                upper = np.stack([px(x[rows]), py(line.y[rows] + line.band[rows])], 1)
                lower = np.stack([px(x[rows]), py(line.y[rows] - line.band[rows])], 1)
                points = _points(np.concatenate([upper, lower[::-1]]))
                edge = f' stroke="{stroke}" stroke-width="3"' if len(rows) == 1 else ""
                parts.append(f'<polygon points="{points}" fill="{stroke}"{edge} opacity=".2"/>')
            points = _points(np.stack([px(x[rows]), py(line.y[rows])], 1))
            if len(rows) == 1:
                cx, cy = points.split(",")
                parts.append(f'<circle cx="{cx}" cy="{cy}" r="2.5" fill="{stroke}"/>')
            else:
                look = f'fill="none" stroke="{stroke}" stroke-width="1.3"'
                parts.append(f'<polyline points="{points}" {look}/>')
    if options.legend and len(lines) > 1:
        parts.append(_legend([line.label for line in lines], left, 14))
    return "".join([*parts, "</svg>"])


def seen_strip(x: np.ndarray, rows: Sequence[tuple[str, np.ndarray]], width: int = 860) -> str:
    """One bar a camera: filled where `seen` (T,) bool, red where not."""
    left, step = 110, 20
    span = width - left - 8
    parts = [_open(width, step * len(rows) + 4)]
    count = len(x)
    for number, (name, seen) in enumerate(rows):
        y = 2 + number * step
        parts.append(f'<text x="4" y="{y + 13}" class="label">{escape(name)}</text>')
        parts.append(
            f'<rect x="{left}" y="{y}" width="{span}" height="{step - 5}" fill="#bbdcc7"/>'
        )
        for first, last in _missing_runs(seen):
            start, wide = left + span * first / count, max(1.0, span * (last - first) / count)
            parts.append(
                f'<rect x="{start:.1f}" y="{y}" width="{wide:.1f}" height="{step - 5}" '
                f'fill="#dc2626"><title>{escape(name)}: frames {first} to {last - 1}</title></rect>'
            )
    return "".join([*parts, "</svg>"])


def plan_drawing(
    title: str,
    cameras: Sequence[tuple[str, np.ndarray, np.ndarray]],
    path: np.ndarray,
    size: int = 380,
) -> str:
    """A projection of the rig.

    Args:
        cameras: name, centre (2,) and viewing direction (2,) of each, metres, y upwards.
        path: (T, 2) the head's way, NaN where it is absent.
    """
    here = path[np.isfinite(path).all(axis=1)]
    centres = np.array([centre for _, centre, _ in cameras]).reshape(-1, 2)
    points = np.concatenate([centres, here])
    middle = (points.min(0) + points.max(0)) / 2
    extent = max(float(np.ptp(points, axis=0).max()) * 1.35, 0.3)

    def place(point: np.ndarray) -> tuple[float, float]:
        x, y = (point - middle) / extent * (size - 20)
        return size / 2 + float(x), size / 2 - float(y)

    parts = [_open(size, size), f'<text x="8" y="16" class="label">{escape(title)}</text>']
    line = _points(np.array([place(p) for p in here[:: max(1, len(here) // MAX_POINTS)]]))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#dc2626" stroke-width="2"/>')
    x, y = place(here.mean(axis=0))
    parts.append(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{0.09 / extent * (size - 20):.1f}" '
        f'fill="#dc2626" opacity=".25"/>'
    )
    written: list[tuple[float, float]] = []
    for number, (name, centre, direction) in enumerate(cameras):
        x, y = place(centre)
        u = np.array([direction[0], -direction[1]])
        side = np.array([-u[1], u[0]])
        corners = np.array([x, y]) + np.array([[0, 0], u + 0.45 * side, u - 0.45 * side]) * 22
        parts.append(f'<polygon points="{_points(corners)}" fill="{colour(number)}"/>')
        x, y = x - 8, y + 16
        while any(abs(x - a) < 7 * len(name) and abs(y - b) < 12 for a, b in written):
            y += 12  # cameras one behind the other: their names stand below one another
        written.append((x, y))
        parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="label" style="fill:{colour(number)}">'
            f"{escape(name)}</text>"
        )
    bar = (size - 20) / extent * 0.1
    parts.append(
        f'<path d="M10 {size - 10}h{bar:.1f}" stroke="#444" stroke-width="2"/>'
        f'<text x="10" y="{size - 14}" class="label">10 cm</text></svg>'
    )
    return "".join(parts)


def _open(width: int, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'xmlns="http://www.w3.org/2000/svg" role="img">'
    )


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    values = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    if not len(values):
        return 0.0, 1.0
    low, high = min(0.0, float(values.min())), float(np.percentile(values, 99.5)) * 1.15
    return (low, high) if high > low else (low, low + 1)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Numbers within [low, high] that are 1, 2 or 5 times a power of ten apart.

    There are at most `most` steps between them.
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    # What is a hair too many by rounding is not.
    step = next(k * power for k in (1, 2, 5, 10) if k * power * most >= (high - low) * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _axes(
    box: tuple[int, int, int, int], x: tuple[float, float], y: tuple[float, float], seconds: bool
) -> list[str]:
    """Grid lines with their values, and marks of x: seconds, or numbers of pictures."""
    left, top, width, height = box
    parts = []
    for value in ticks(*y, 3 if height < _LOW else 4):
        at = top + height * (y[1] - value) / (y[1] - y[0])
        parts.append(f'<path d="M{left} {at:.1f}h{width}" stroke="#ddd"/>')
        where = f'x="{left - 5}" y="{at + 4:.1f}" text-anchor="end"'
        parts.append(f'<text {where} class="tick">{value:.6g}</text>')
    marks = ticks(*x, 5 if width < _NARROW else 10)
    if not seconds:
        marks = [value for value in marks if value == round(value)]
    for value in marks:
        at = left + width * (value - x[0]) / (x[1] - x[0])
        parts.append(
            f'<text x="{at:.1f}" y="{top + height + 15}" text-anchor="middle" class="tick">'
            f"{value:.6g}{_unit(value, marks, seconds)}</text>"
        )
    return parts


def _unit(value: float, marks: Sequence[float], seconds: bool) -> str:
    """Behind the last but one mark of x: behind the last it might stand beyond the edge."""
    if value != marks[max(0, len(marks) - 2)]:
        return ""
    return " s" if seconds else " (picture)"


def _legend(labels: Sequence[str], x: float, y: float) -> str:
    parts, place = [], x + 80
    for number, label in enumerate(labels):
        parts.append(
            f'<rect x="{place}" y="{y - 9}" width="10" height="10" fill="{colour(number)}"/>'
        )
        parts.append(f'<text x="{place + 14}" y="{y}" class="label">{escape(label)}</text>')
        place += 26 + 7 * len(label)
    return "".join(parts)


def _segments(y: np.ndarray, joined: bool) -> list[np.ndarray]:
    """Rows of each run of finite values, or each for itself."""
    rows = np.flatnonzero(np.isfinite(y))
    if not len(rows):
        return []
    if not joined:
        return list(rows[:, None])
    return np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)


def _thinned(y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """At most MAX_POINTS rows: the lowest and the highest of each stretch."""
    if len(rows) <= MAX_POINTS:
        return rows
    kept = []
    for part in np.array_split(rows, MAX_POINTS // 2):
        kept += [part[np.argmin(y[part])], part[np.argmax(y[part])]]
    return np.unique(kept)


def _missing_runs(seen: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~seen, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _points(points: np.ndarray) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
