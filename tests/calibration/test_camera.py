"""Projection and its inverse, checked against OpenCV and against closed forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration import CalibrationError, Camera

OPENCV_LENSES = [
    (),
    (-0.25, 0.08, 0.001, -0.002),
    (-0.25, 0.08, 0.001, -0.002, 0.02),
    (0.3, -0.2, 0.0005, 0.001, 0.05, 0.35, -0.15, 0.03),
]
FISHEYE_LENSES = [(), (0.02, -0.01, 0.003, -0.001)]


def camera(dist: tuple[float, ...], model: str = "opencv") -> Camera:
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.1, -0.4, 0.05]))[0]
    T[:3, 3] = [0.2, -0.1, 1.1]
    K = np.array([[900.0, 0, 650.5], [0, 910.0, 349.25], [0, 0, 1]])
    return Camera("c", 1280, 720, model, K, np.array(dist), T)


def points_in_view(n: int = 200) -> np.ndarray:
    return np.random.default_rng(0).uniform([-0.5, -0.3, -0.2], [0.4, 0.3, 0.5], (n, 3))


@pytest.mark.parametrize("dist", OPENCV_LENSES)
def test_project_agrees_with_opencv(dist: tuple[float, ...]) -> None:
    c, points = camera(dist), points_in_view()
    T = c.T_camera_world
    expected, _ = cv2.projectPoints(points, cv2.Rodrigues(T[:3, :3])[0], T[:3, 3], c.K, c.dist)
    np.testing.assert_allclose(c.project(points), expected[:, 0], atol=1e-8)


@pytest.mark.parametrize("dist", FISHEYE_LENSES)
def test_fisheye_project_agrees_with_opencv(dist: tuple[float, ...]) -> None:
    c, points = camera(dist, "opencv_fisheye"), points_in_view()
    T = c.T_camera_world
    four = np.array(dist if dist else (0, 0, 0, 0), float)
    expected, _ = cv2.fisheye.projectPoints(
        points[:, None], cv2.Rodrigues(T[:3, :3])[0], T[:3, 3], c.K, four
    )
    np.testing.assert_allclose(c.project(points), expected[:, 0], atol=1e-8)


@pytest.mark.parametrize(
    ("model", "dist"),
    [("opencv", d) for d in OPENCV_LENSES] + [("opencv_fisheye", d) for d in FISHEYE_LENSES],
)
def test_normalize_inverts_projection(model: str, dist: tuple[float, ...]) -> None:
    c, points = camera(dist, model), points_in_view()
    in_camera = points @ c.T_camera_world[:3, :3].T + c.T_camera_world[:3, 3]
    rays = c.normalize(c.project(points))
    np.testing.assert_allclose(rays, in_camera[:, :2] / in_camera[:, 2:], atol=1e-9)


def test_normalize_agrees_with_opencv_over_the_picture() -> None:
    c = camera(OPENCV_LENSES[2])
    x, y = np.meshgrid(np.linspace(0, 1279, 20), np.linspace(0, 719, 12))
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-14)
    expected = cv2.undistortPoints(pixels[:, None], c.K, c.dist, criteria=criteria)[:, 0]
    np.testing.assert_allclose(c.normalize(pixels), expected, atol=1e-7)


def test_no_ray_is_nan_not_a_guess() -> None:
    c = camera((-0.5, 0.0, 0.0, 0.0))  # folds over at r = 0.816, where r_d = 0.544
    K = c.K
    pixels = np.array([[K[0, 2] + K[0, 0] * 0.5, K[1, 2]], [K[0, 2] + K[0, 0] * 0.6, K[1, 2]]])
    rays = c.normalize(pixels)
    assert np.isfinite(rays[0]).all()
    assert np.isnan(rays[1]).all()
    assert np.isnan(c.normalize(np.full((1, 2), np.nan))).all()
    # Farther out the formula has solutions on the other side of the centre, which nothing shows.
    strong = camera((-9.0, 0.0, 0.0, 0.0))
    far = K[:2, 2] + K[0, 0] * np.array([[0.3, 0.1], [0.0, 0.5], [-0.4, 0.4], [0.8, 0.0]])
    assert np.isnan(strong.normalize(far)).all()


@pytest.mark.parametrize(
    ("model", "dist"),
    [
        ("opencv", (-0.3, 0.05, 0.0, 0.0)),
        ("opencv", (0.1, 0.0, 0.0, 0.0, 0.0, 0.6, 0.2, 0.01)),
        ("opencv", (-0.1, 0.0, 0.0, 0.0, 0.0, -0.2, 0.0, 0.0)),
        ("opencv_fisheye", (-0.1, 0.01, -0.002, 0.0)),
        ("opencv_fisheye", ()),
    ],
)
def test_what_is_too_far_aside_does_not_turn_back_into_the_picture(
    model: str, dist: tuple[float, ...]
) -> None:
    """On a ray from the centre outwards the picture goes outwards until it ends, never back."""
    c = camera(dist, model)
    angle = np.linspace(0.0, 3.1 if model == "opencv_fisheye" else 1.55, 4000)
    points = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], 1)
    seen = c.project_camera(points)[:, 0]
    end = int(np.isfinite(seen).sum())
    assert np.isnan(seen[end:]).all()
    assert (np.diff(seen[:end]) > 0).all()
    # It ends where the formula goes back, or across the centre.
    if model == "opencv" and end < len(angle):
        ray = np.stack([np.tan(angle[end : end + 2]), np.zeros(2), np.ones(2)], 1)
        plain, _ = cv2.projectPoints(ray, np.zeros(3), np.zeros(3), np.eye(3), c.dist)
        first, second = plain[:, 0, 0]
        assert second < first or first < 0


def test_points_behind_the_camera_are_nan() -> None:
    c = camera(())
    assert np.isnan(c.project_camera(np.array([[0.1, 0.0, -1.0]]))).all()
    assert np.isfinite(c.project_camera(np.array([[0.1, 0.0, 1.0]]))).all()


def test_fisheye_sees_behind_itself() -> None:
    c = camera((), "opencv_fisheye")
    behind = c.project_camera(np.array([[1.0, 0.0, -1e-3]]))
    assert behind[0, 0] == pytest.approx(650.5 + 900 * (np.pi / 2 + 1e-3), abs=1e-6)


def test_position_is_where_the_world_point_maps_to_the_origin() -> None:
    c = camera(())
    in_camera = c.T_camera_world @ np.append(c.position, 1.0)
    np.testing.assert_allclose(in_camera[:3], 0, atol=1e-12)


def test_scaling_keeps_what_a_pixel_sees() -> None:
    """Pixel (0, 0) covers [-0.5, 0.5]: halving the picture maps centre x to (x + 0.5) / 2 - 0.5."""
    c = camera(OPENCV_LENSES[2])
    half = c.scaled_to(640, 360)
    points = points_in_view()
    np.testing.assert_allclose(half.project(points), (c.project(points) + 0.5) / 2 - 0.5)
    assert (half.width, half.height) == (640, 360)


def test_scaling_accepts_rounded_sides_and_refuses_another_aspect() -> None:
    c = camera(())
    assert c.scaled_to(854, 480).width == 854
    assert c.scaled_to(1280, 720) is c
    with pytest.raises(CalibrationError, match=r"'c'.*1280x720.*640x480.*aspect"):
        c.scaled_to(640, 480)
    with pytest.raises(CalibrationError, match="aspect"):
        c.scaled_to(720, 1280)


def test_scaling_scales_pixel_deviations_only() -> None:
    c = Camera("c", 100, 100, std={"focal": 2.0, "rotation": 0.1})
    assert c.scaled_to(50, 50).std == {"focal": 1.0, "rotation": 0.1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a b"}, "bad name"),
        ({"width": 0}, "width"),
        ({"height": 7.5}, "height"),
        ({"width": True}, "width"),
        ({"model": "pinhole"}, "model is 'pinhole'"),
        ({"dist": np.zeros(6)}, "dist has 6"),
        ({"dist": np.array([np.nan, 0, 0, 0])}, "dist holds NaN"),
        ({"K": np.eye(4)}, "K is 4x4"),
        ({"K": np.array([[9.0, 1, 5], [0, 9, 5], [0, 0, 1]])}, "skew"),
        ({"K": np.array([[-9.0, 0, 5], [0, 9, 5], [0, 0, 1]])}, "positive"),
        ({"K": np.array([[9.0, 0, np.inf], [0, 9, 5], [0, 0, 1]])}, "infinity"),
        ({"T_camera_world": np.diag([1.0, 1, -1, 1])}, "left-handed"),
        ({"T_camera_world": np.diag([2.0, 2, 2, 1])}, "not orthonormal"),
        ({"T_camera_world": np.eye(3)}, "T_camera_world is 3x3"),
        ({"T_camera_world": np.ones((4, 4))}, "row"),
        ({"std": {"focal": -1.0}}, "std.focal"),
        ({"std": {"fokal": 1.0}}, "std.fokal"),
    ],
)
def test_wrong_cameras_are_refused_by_name_and_key(
    changes: dict[str, object], message: str
) -> None:
    fields: dict[str, object] = {"name": "c", "width": 10, "height": 10}
    with pytest.raises(CalibrationError, match=message) as caught:
        Camera(**{**fields, **changes})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_rounded_rotations_become_true_rotations() -> None:
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.3, 0.2, 0.1]))[0].round(4)
    fixed = Camera("c", 10, 10, T_camera_world=T).T_camera_world
    np.testing.assert_allclose(fixed[:3, :3] @ fixed[:3, :3].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(fixed, T, atol=1e-4)


def test_arrays_cannot_be_changed_behind_the_cameras_back() -> None:
    K = np.array([[9.0, 0, 5], [0, 9, 5], [0, 0, 1]])
    c = Camera("c", 10, 10, K=K)
    K[0, 0] = 1
    assert c.K[0, 0] == 9
    with pytest.raises(ValueError, match="read-only"):
        c.K[0, 0] = 1


def test_what_is_unknown_is_said() -> None:
    c = Camera("phone", 10, 10)
    with pytest.raises(CalibrationError, match="'phone': K is unknown"):
        c.normalize(np.zeros((1, 2)))
    with pytest.raises(CalibrationError, match="T_camera_world is unknown"):
        c.project(np.zeros((1, 3)))
