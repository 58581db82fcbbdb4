"""One camera: where it stands, and how its lens maps rays to pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np

from calibration import lens
from calibration.errors import CalibrationError

NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]+")
STD_KEYS = ("focal", "center", "rotation", "translation")

# Metres from the world's origin; a rig in wrong units is nearer than that.
_FARTHEST = 1e6
# How far R R^T may be from the identity: numbers rounded to four decimals pass, mistakes do not.
_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated or partly calibrated camera; OpenCV axes (+x right, +y down, +z forward).

    Pixels are those of the picture as displayed, distorted, with pixel centres at integers.
    The constructor checks everything and raises CalibrationError; arrays are read-only copies.
    """

    name: str
    """Letters, digits, _ and -."""
    width: int
    """px, of the picture that K belongs to."""
    height: int
    """px."""
    model: str = "opencv"
    """`opencv` or `opencv_fisheye`."""
    K: np.ndarray | None = None
    """(3, 3) float64 px [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; None: focal length unknown."""
    dist: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(0, 4, 5 or 8,) float64 for opencv, (0 or 4,) for opencv_fisheye."""
    T_camera_world: np.ndarray | None = None
    """(4, 4) float64, maps world to camera, metres; None: unknown."""
    std: dict[str, float] | None = None
    """Standard deviations: focal and center in px, rotation in rad, translation in metres."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME_PATTERN.fullmatch(self.name):
            raise CalibrationError(
                f"camera '{self.name}': bad name; use letters, digits, _ and - only"
            )
        for key in ("width", "height"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value <= 0:
                self._fail(
                    key, f"is {value!r}; give the picture's size as a whole number of pixels"
                )
            object.__setattr__(self, key, int(value))
        if self.model not in lens.MODELS:
            self._fail("model", f"is '{self.model}'; use {' or '.join(lens.MODELS)}")
        object.__setattr__(self, "dist", self._checked_dist())
        if self.K is not None:
            object.__setattr__(self, "K", self._checked_K())
        if self.T_camera_world is not None:
            object.__setattr__(self, "T_camera_world", self._checked_T())
        if self.std is not None:
            object.__setattr__(self, "std", self._checked_std())

    @property
    def position(self) -> np.ndarray:
        """(3,) float64, metres, world: the centre of projection. CalibrationError without T."""
        T = self._need("T_camera_world")
        return -T[:3, :3].T @ T[:3, 3]

    def project(self, points_world: np.ndarray) -> np.ndarray:
        """Project world points into the picture.

        Args:
            points_world: (N, 3) float, metres, world.
        Returns:
            (N, 2) float64 px; NaN where the point is behind the camera, or so far to the side that
            the lens model does not hold.
        Raises:
            CalibrationError: K or T_camera_world is unknown.
        """
        T = self._need("T_camera_world")
        return self.project_camera(np.asarray(points_world, float) @ T[:3, :3].T + T[:3, 3])

    def project_camera(self, points_camera: np.ndarray) -> np.ndarray:
        """Project points of the camera's frame, (N, 3) metres -> (N, 2) px; NaN as `project`."""
        K = self._need("K")
        points = np.asarray(points_camera, float)
        if self.model == "opencv_fisheye":
            distorted = lens.distort_fisheye(points, self.dist)
            angle = np.arctan2(np.hypot(points[:, 0], points[:, 1]), points[:, 2])
            distorted[angle > lens.angle_limit(self.dist)] = np.nan
        else:
            depth = np.where(points[:, 2] > 0, points[:, 2], np.nan)
            distorted = points[:, :2] / depth[:, None]
            if self.dist.any():
                limit = lens.radius_limit(self.dist)
                distorted[np.hypot(*distorted.T) > limit] = np.nan
                distorted, _ = lens.distort(distorted, self.dist)
        return distorted * K[[0, 1], [0, 1]] + K[:2, 2]

    def normalize(self, xy: np.ndarray) -> np.ndarray:
        """Remove lens and focal length.

        Args:
            xy: (N, 2) float, px.
        Returns:
            (N, 2) float64: x/z, y/z of the rays; NaN where the input is NaN or no ray leads there.
        """
        K = self._need("K")
        distorted = (np.asarray(xy, float) - K[:2, 2]) / K[[0, 1], [0, 1]]
        if self.model == "opencv_fisheye":
            return lens.undistort_fisheye(distorted, self.dist)
        return lens.undistort(distorted, self.dist)

    def scaled_to(self, width: int, height: int) -> Camera:
        """The same camera for a picture of another size.

        K follows the pixel grid, cx' = (cx + 0.5) s - 0.5 (pixel centres at integers).
        CalibrationError when the aspect ratio differs by more than the rounding to whole pixels.
        """
        if (width, height) == (self.width, self.height):
            return self
        # The sides come from rounding, so each must fit the other's scale within one pixel.
        if (
            abs(width - self.width * height / self.height) >= 1
            and abs(height - self.height * width / self.width) >= 1
        ):
            raise CalibrationError(
                f"camera '{self.name}': calibrated for {self.width}x{self.height}, but the picture "
                f"is {width}x{height}, another aspect ratio; give the calibration of this picture "
                "format, or crop K accordingly"
            )
        scale = np.array([width / self.width, height / self.height])
        K = self.K
        if K is not None:
            K = K.copy()
            K[[0, 1], [0, 1]] *= scale
            K[:2, 2] = (K[:2, 2] + 0.5) * scale - 0.5
        std = self.std
        if std is not None:
            mean = float(scale.mean())
            std = {k: v * (mean if k in ("focal", "center") else 1.0) for k, v in std.items()}
        return replace(self, width=width, height=height, K=K, std=std)

    def _need(self, key: str) -> np.ndarray:
        value = getattr(self, key)
        if value is None:
            self._fail(key, "is unknown; calibrate this camera or leave it to the fit")
        return value

    def _fail(self, key: str, problem: str) -> None:
        raise CalibrationError(f"camera '{self.name}': {key} {problem}")

    def _array(self, key: str, shape: tuple[int, ...] | None) -> np.ndarray:
        """A read-only float64 copy of a field, of the given shape and finite."""
        try:
            array = np.array(getattr(self, key), dtype=np.float64)
        except (TypeError, ValueError):
            self._fail(key, "is not a matrix of numbers; give plain numbers, rows of equal length")
        if shape is not None and array.shape != shape:
            size = "x".join(map(str, array.shape)) or "a single number"
            self._fail(key, f"is {size}; give {'x'.join(map(str, shape))} numbers")
        if not np.isfinite(array).all():
            self._fail(key, "holds NaN or infinity; write finite numbers, or leave the key out")
        array.setflags(write=False)
        return array

    def _checked_dist(self) -> np.ndarray:
        dist = self._array("dist", None)
        allowed = lens.COEFFICIENT_COUNTS[self.model]
        if dist.ndim != 1 or len(dist) not in allowed:
            counts = ", ".join(map(str, allowed[:-1])) + f" or {allowed[-1]}"
            self._fail("dist", f"has {dist.size} numbers; model {self.model} takes {counts}")
        return dist

    def _checked_K(self) -> np.ndarray:
        K = self._array("K", (3, 3))
        if K[0, 0] <= 0 or K[1, 1] <= 0:
            self._fail("K", f"has focal lengths {K[0, 0]:g}, {K[1, 1]:g}; they must be positive")
        if K[0, 1] != 0:
            self._fail("K", f"has skew {K[0, 1]:g}; skew is not supported, recalibrate without it")
        if K[1, 0] != 0 or not np.array_equal(K[2], [0, 0, 1]):
            self._fail("K", "is no camera matrix; write [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
        return K

    def _checked_T(self) -> np.ndarray:
        T = self._array("T_camera_world", (4, 4))
        if not np.array_equal(T[3], [0, 0, 0, 1]):
            self._fail("T_camera_world", "has another last row; write [0, 0, 0, 1]")
        error = np.abs(T[:3, :3] @ T[:3, :3].T - np.eye(3)).max()
        if error > _ROTATION_TOLERANCE:
            self._fail(
                "T_camera_world",
                f"has a rotation that is not orthonormal (error {error:.2g}); its rows must be "
                "unit vectors at right angles, without scale or shear",
            )
        if np.abs(T[:3, 3]).max() > _FARTHEST:
            self._fail(
                "T_camera_world",
                f"has a translation of more than {_FARTHEST:g} m; check it and the units",
            )
        if np.linalg.det(T[:3, :3]) < 0:
            self._fail(
                "T_camera_world",
                "has a left-handed rotation (determinant -1); flip one axis to get a true rotation",
            )
        if error > 1e-9:
            # Rounded numbers: the nearest true rotation, so that its transpose is its inverse.
            u, _, vt = np.linalg.svd(T[:3, :3])
            T = T.copy()
            T[:3, :3] = u @ vt
            T.setflags(write=False)
        return T

    def _checked_std(self) -> dict[str, float]:
        checked = {}
        for key, value in dict(self.std or {}).items():
            if key not in STD_KEYS:
                self._fail(f"std.{key}", f"is unknown; use {', '.join(STD_KEYS)}")
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not number or not np.isfinite(value) or value < 0:
                self._fail(f"std.{key}", f"is {value!r}; give a number of zero or more")
            checked[key] = float(value)
        return checked
