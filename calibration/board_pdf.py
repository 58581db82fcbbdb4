"""A printable PDF of a board at true scale: vector shapes, so sharp on any printer."""

from __future__ import annotations

from pathlib import Path

from calibration.atomic import atomic_path
from calibration.board_drawing import Drawing, draw_board
from calibration.boards import Board
from calibration.errors import CalibrationError

_POINTS_PER_METRE = 72 / 0.0254
# Printers cannot reach the edge of the sheet, and detectors need light around the pattern.
_MARGIN = 0.012
# Below the pattern: what it is, and a line to measure the print by.
_FOOT = 0.012
_RULER = 0.1
PAPERS = {
    "a4": (0.210, 0.297),
    "a3": (0.297, 0.420),
    "a2": (0.420, 0.594),
    "a1": (0.594, 0.841),
    "a0": (0.841, 1.189),
    "letter": (0.2159, 0.2794),
}
# A circle as four Bezier curves.
_KAPPA = 0.5522847498


def parse_paper(text: str) -> str:
    """`fit` or a key of PAPERS.

    Raises:
        CalibrationError: neither.
    """
    if text.lower() not in ("fit", *PAPERS):
        raise CalibrationError(f"paper '{text}': use {', '.join(PAPERS)} or fit")
    return text.lower()


def write_board_pdf(path: str | Path, board: Board, paper: str = "fit") -> tuple[float, float]:
    """Write the board.

    Args:
        paper: a key of PAPERS, turned as needed, or `fit` for a sheet as large as the board needs.
    Returns:
        Width and height of the sheet in metres.
    Raises:
        CalibrationError: unknown paper, or too small for the board.
    """
    drawing = draw_board(board)
    needed = (drawing.width + 2 * _MARGIN, drawing.height + 2 * _MARGIN + _FOOT)
    width, height = _sheet(needed, paper, board)
    left = (width - drawing.width) / 2
    top = (height - _FOOT - drawing.height) / 2
    content = "\n".join([*_shapes(drawing, left, top, height), *_foot(board, width)])
    with atomic_path(path) as temporary:
        temporary.write_bytes(_document(content.encode("latin-1"), width, height))
    return width, height


def _sheet(needed: tuple[float, float], paper: str, board: Board) -> tuple[float, float]:
    if paper.lower() == "fit":
        return max(needed[0], _RULER + 2 * _MARGIN), needed[1]
    sheet = PAPERS[parse_paper(paper)]
    for size in (sheet, sheet[::-1]):
        if needed[0] <= size[0] and needed[1] <= size[1]:
            return size
    raise CalibrationError(
        f"board {board.text()}: needs {needed[0] * 1e3:.0f} x {needed[1] * 1e3:.0f} mm with its "
        f"margin, more than {paper}; take larger paper or smaller squares"
    )


def _shapes(drawing: Drawing, left: float, top: float, height: float) -> list[str]:
    """PDF operators; its y axis points up from the bottom of the sheet."""
    unit = _POINTS_PER_METRE

    def box(x: float, y: float, w: float, h: float) -> str:
        bottom = height - top - y - h
        return f"{(left + x) * unit:.4f} {bottom * unit:.4f} {w * unit:.4f} {h * unit:.4f} re f"

    lines = ["0 g"]
    if not drawing.ink:
        lines += [box(0, 0, drawing.width, drawing.height), "1 g"]
    lines += [box(*map(float, rectangle)) for rectangle in drawing.rectangles]
    for x, y, r in drawing.circles:
        lines.append(_circle((left + x) * unit, (height - top - y) * unit, r * unit))
    return [*lines, "0 g"]


def _circle(x: float, y: float, r: float) -> str:
    k = _KAPPA * r
    curves = [
        (x + r, y + k, x + k, y + r, x, y + r),
        (x - k, y + r, x - r, y + k, x - r, y),
        (x - r, y - k, x - k, y - r, x, y - r),
        (x + k, y - r, x + r, y - k, x + r, y),
    ]
    parts = [f"{x + r:.4f} {y:.4f} m"]
    parts += [" ".join(f"{v:.4f}" for v in curve) + " c" for curve in curves]
    return " ".join([*parts, "f"])


def _foot(board: Board, width: float) -> list[str]:
    """The specification, and a line of 100 mm."""
    unit = _POINTS_PER_METRE
    y = 0.010 * unit
    begin, end = _MARGIN * unit, (_MARGIN + _RULER) * unit
    text = f"{board.text()}   line: 100 mm, print at 100 %"
    return [
        f"0.5 w {begin:.4f} {y:.4f} m {end:.4f} {y:.4f} l S",
        f"{begin:.4f} {y - 4:.4f} m {begin:.4f} {y + 4:.4f} l S",
        f"{end:.4f} {y - 4:.4f} m {end:.4f} {y + 4:.4f} l S",
        f"BT /F1 6 Tf {begin:.4f} {y - 10:.4f} Td ({text}) Tj ET",
    ]


def _document(content: bytes, width: float, height: float) -> bytes:
    """One page with one font, and the table of byte offsets that PDF wants at its end."""
    box = f"[0 0 {width * _POINTS_PER_METRE:.4f} {height * _POINTS_PER_METRE:.4f}]"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /ViewerPreferences << /PrintScaling /None >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents 5 0 R "
            "/Resources << /Font << /F1 4 0 R >> >> >>"
        ).encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream",
    ]
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
    out += (
        f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    )
    return bytes(out)
