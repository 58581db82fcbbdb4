"""Boards: their specifications, their pictures, and finding them to a fraction of a pixel."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from board_views import photograph, small_camera

from calibration import CalibrationError
from calibration.board_pdf import write_board_pdf
from calibration.boards import Board, parse_board
from calibration.detection import detect
from calibration.diagnose import check_board, why_not_found
from calibration.rotations import matrix_from_vector, transform

SPECIFICATIONS = [
    "charuco:5x7:35mm:26mm:DICT_4X4_50",
    "charuco:6x8:30mm:22mm:DICT_5X5_100:inverted",
    "charuco:5x8:30mm:22mm:DICT_6X6_250:legacy",
    "chessboard:9x6:25mm",
    "circles:9x7:25mm",
    "circles:4x11:18mm:asymmetric",
    "aprilgrid:4x3:60mm:18mm:DICT_APRILTAG_36h11",
]


def pose(board: Board, tilt: tuple[float, float, float] = (0.3, -0.35, 0.12)) -> np.ndarray:
    R = matrix_from_vector(np.array(tilt))
    middle = board.points().mean(axis=0)
    return transform(R, np.array([0.02, -0.01, 2.2 * max(board.size)]) - R @ middle)


@pytest.mark.parametrize("text", SPECIFICATIONS)
def test_found_where_it_is(text: str) -> None:
    board = parse_board(text)
    assert board.text() == text
    camera, T = small_camera(), pose(board)
    found = detect(photograph(camera, board, T), board)
    assert found is not None
    points = board.points()[found.ids]
    expected = camera.project(points @ T[:3, :3].T + T[:3, 3])
    assert len(found.ids) >= 0.9 * len(board.points())
    error = np.linalg.norm(found.xy - expected, axis=1)
    assert np.median(error) < 0.12
    # A blob's centre of mass is not the circle's projected centre.
    assert error.max() < (0.6 if board.kind == "circles" else 0.4)


@pytest.mark.parametrize("turn", [np.pi, np.pi / 2, -2.5])
def test_a_chessboard_keeps_its_first_corner_when_turned(turn: float) -> None:
    board = parse_board("chessboard:9x6:25mm")
    camera, T = small_camera(), pose(board, (0.1, 0.05, turn))
    found = detect(photograph(camera, board, T), board)
    assert found is not None
    expected = camera.project(board.points() @ T[:3, :3].T + T[:3, 3])
    assert np.abs(found.xy - expected).max() < 0.5


def test_nothing_in_an_empty_picture() -> None:
    rng = np.random.default_rng(1)
    noise = cv2.GaussianBlur(rng.integers(0, 255, (240, 320), dtype=np.uint8), (0, 0), 2)
    for text in SPECIFICATIONS:
        assert detect(noise, parse_board(text)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chess:9x6:25mm", "unknown kind 'chess'"),
        ("chessboard:9:25mm", "'9' is no number of columns and rows"),
        ("chessboard:9x6:25", "'25' is no length"),
        ("chessboard:9x6:25mm:inverted", "'inverted' is not understood"),
        ("chessboard:9x2:25mm", "too small"),
        ("chessboard", "too few parts"),
        ("charuco:5x7:35mm:26mm", "dictionary is missing"),
        ("charuco:5x7:35mm:26mm:DICT_4X4_5O", "did you mean 'DICT_4X4_50'"),
        ("charuco:5x7:26mm:35mm:DICT_4X4_50", "smaller than its square"),
        ("charuco:15x10:35mm:26mm:DICT_4X4_50", "has 50"),
        ("none.toml", "no such file"),
    ],
)
def test_wrong_specifications(text: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=re.escape(message)) as caught:
        parse_board(text)
    assert "\n" not in str(caught.value)


def test_caliscope_and_kalibr_files(tmp_path: Path) -> None:
    toml = tmp_path / "charuco.toml"
    toml.write_text(
        'columns = 4\nrows = 5\nboard_height = 11.0\nboard_width = 8.5\nunits = "inch"\n'
        'dictionary = "DICT_4X4_1000"\naruco_scale = 0.75\nsquare_size_override_cm = 5.4\n'
        "inverted = true\n"
    )
    assert parse_board(str(toml)).text() == "charuco:4x5:54mm:40.5mm:DICT_4X4_1000:inverted"
    target = tmp_path / "april.yaml"
    target.write_text(
        "target_type: 'aprilgrid'\ntagCols: 6\ntagRows: 6\ntagSize: 0.088\ntagSpacing: 0.3\n"
    )
    assert parse_board(str(target)).text() == "aprilgrid:6x6:88mm:26.4mm:DICT_APRILTAG_36h11"
    target.write_text("target_type: 'unheard of'\n")
    with pytest.raises(CalibrationError, match="unheard of"):
        parse_board(str(target))


@pytest.mark.parametrize(
    "line",
    [
        "columns = 0",
        "columns = inf",
        "rows = 1e999",
        "square_size_override_cm = nan",
        "square_size_override_cm = inf",
        "square_size_override_cm = 1e300",
        "aruco_scale = nan",
        "aruco_scale = 3",
        "dictionary = []",
        "columns = [",
    ],
)
def test_damaged_board_files_name_file_and_remedy(line: str, tmp_path: Path) -> None:
    """Once a division by zero, and a board of NaN squares."""
    good = {"columns": "4", "rows": "5", "board_height": "11.0", "board_width": "8.5"}
    good |= {"units": '"inch"', "dictionary": '"DICT_4X4_1000"', "aruco_scale": "0.75"}
    key, _, value = line.partition(" = ")
    path = tmp_path / "charuco.toml"
    path.write_text("".join(f"{k} = {v}\n" for k, v in {**good, key: value}.items()))
    with pytest.raises(CalibrationError, match=r"charuco\.toml: .*;"):
        parse_board(str(path))
    path = tmp_path / "target.yaml"
    path.write_text("target_type: aprilgrid\ntagCols: .inf\ntagRows: 6\ntagSize: 1\n")
    with pytest.raises(CalibrationError, match=r"target\.yaml: .*;"):
        parse_board(str(path))


def test_kalibr_counts_tags_from_the_bottom() -> None:
    board = parse_board("aprilgrid:3x2:50mm:10mm")
    points = board.points()
    assert points[0, 1] > points[4 * 3, 1]
    np.testing.assert_allclose(points[4 * 3], 0)
    assert replace(board, topdown=True).points()[0, 1] == 0


def test_pdf_is_at_true_scale(tmp_path: Path) -> None:
    board = parse_board("chessboard:9x6:25mm")
    width, height = write_board_pdf(tmp_path / "b.pdf", board, "a3")
    assert (width, height) == (0.297, 0.420)
    text = (tmp_path / "b.pdf").read_bytes().decode("latin-1")
    box = [float(v) for v in re.search(r"/MediaBox \[(.*?)\]", text)[1].split()]
    np.testing.assert_allclose(np.array(box[2:]) / 72 * 25.4, [297, 420], atol=0.01)
    squares = np.array(
        [[float(v) for v in m] for m in re.findall(r"(\S+) (\S+) (\S+) (\S+) re f", text)]
    )
    assert len(squares) == 35
    np.testing.assert_allclose(squares[:, 2:] / 72 * 25.4, 25, atol=0.01)
    extent = (squares[:, :2] + squares[:, 2:]).max(axis=0) - squares[:, :2].min(axis=0)
    np.testing.assert_allclose(extent / 72 * 25.4, [250, 175], atol=0.01)
    # The table of offsets must point at the objects.
    start = int(re.search(r"startxref\n(\d+)", text)[1])
    for number, line in enumerate(text[start:].splitlines()[3:8], 1):
        assert text[int(line[:10]) :].startswith(f"{number} 0 obj")
    assert zlib.crc32(text.encode("latin-1")) == zlib.crc32((tmp_path / "b.pdf").read_bytes())


def test_pdf_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"more than a4"):
        write_board_pdf(tmp_path / "b.pdf", parse_board("chessboard:9x6:35mm"), "a4")
    with pytest.raises(CalibrationError, match=r"paper 'a9'"):
        write_board_pdf(tmp_path / "b.pdf", parse_board("chessboard:9x6:35mm"), "a9")
    assert not list(tmp_path.iterdir())


def shown(text: str, flip: bool = False) -> list[np.ndarray]:
    board = parse_board(text)
    camera = small_camera()
    tilts = [(0.3, -0.3, 0.1), (-0.2, 0.25, 0.0)]
    photos = [photograph(camera, board, pose(board, tilt)) for tilt in tilts]
    return [np.ascontiguousarray(p[:, ::-1]) if flip else p for p in photos]


@pytest.mark.parametrize(
    ("filmed", "stated", "reason"),
    [
        ("charuco:5x7:35mm:26mm:DICT_4X4_50", "charuco:5x7:35mm:26mm:DICT_5X5_50", "DICT_4X4"),
        ("charuco:5x7:35mm:26mm:DICT_4X4_50", "charuco:7x5:35mm:26mm:DICT_4X4_50", "exchanged"),
        (
            "charuco:5x7:35mm:26mm:DICT_4X4_50:inverted",
            "charuco:5x7:35mm:26mm:DICT_4X4_50",
            "add ':inverted'",
        ),
        (
            "charuco:5x8:30mm:22mm:DICT_6X6_250:legacy",
            "charuco:5x8:30mm:22mm:DICT_6X6_250",
            "add ':legacy'",
        ),
        ("chessboard:8x5:25mm", "chessboard:9x6:25mm", "8x5 inner corners"),
        ("circles:4x11:18mm:asymmetric", "circles:4x11:18mm", "add ':asymmetric'"),
    ],
)
def test_why_another_board_is_not_found(filmed: str, stated: str, reason: str) -> None:
    photos = shown(filmed)[:1]
    board = parse_board(stated)
    assert not any(detect(photo, board) for photo in photos)
    assert reason in why_not_found(photos, board)


def test_a_board_that_is_cut_off_is_not_called_another() -> None:
    photo = shown("chessboard:9x6:25mm")[0].copy()
    board = parse_board("chessboard:9x6:25mm")
    found = detect(photo, board)
    assert found is not None
    left = int(found.xy[:, 0].min() + 0.3 * np.ptp(found.xy[:, 0]))
    photo = np.ascontiguousarray(photo[:, left:])
    assert detect(photo, board) is None
    assert "film it whole" in why_not_found([photo], board)


def test_mirrored_markers_are_named() -> None:
    text = "charuco:5x7:35mm:26mm:DICT_4X4_50"
    assert "mirrored" in why_not_found(shown(text, flip=True), parse_board(text))


def test_a_board_that_is_larger_than_stated_is_refused() -> None:
    with pytest.raises(CalibrationError, match="marker number"):
        check_board(
            shown("charuco:5x7:35mm:26mm:DICT_4X4_50"),
            parse_board("charuco:5x4:35mm:26mm:DICT_4X4_50"),
        )
    with pytest.raises(CalibrationError, match="9x6 inner corners"):
        check_board(shown("chessboard:9x6:25mm"), parse_board("chessboard:6x5:25mm"))
    with pytest.raises(CalibrationError, match=r"0.7\d of a square, --board says 0.60"):
        check_board(
            shown("charuco:5x7:35mm:26mm:DICT_4X4_50"),
            parse_board("charuco:5x7:35mm:21mm:DICT_4X4_50"),
        )
    check_board(shown("chessboard:9x6:25mm"), parse_board("chessboard:9x6:25mm"))
