"""What a fit looks at: the head's landmarks, cameras, and the planes and priors of any frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from densefit.fit.bias import bias_lengths, with_bias
from densefit.fit.camera_prior import camera_prior
from densefit.fit.cameras import camera_state, guessed_intrinsics
from densefit.fit.dolly import alone
from densefit.fit.geometry import neutral_planes, person, pose_landmarks, rotations
from densefit.fit.landmark_model import LandmarkModel, landmark_model
from densefit.fit.linearization import Planes
from densefit.fit.noise import error_level, noise_model
from densefit.fit.observations import (
    LandmarkSource,
    landmark_region_weights,
    normalize_observations,
    without_sigma,
)
from densefit.fit.options import FitOptions
from densefit.fit.priors import Outward, Priors, Told, make_priors
from densefit.fit.state import CameraState, Motion, State
from densefit.fit.weights import adjust_precision, landmark_normals, measured_sigma_scale, scaled

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.head.model import HeadModel

Tensor = torch.Tensor
Progress = Callable[[float], None]


class FitData:
    """What a fit looks at. Arrays over `frames` have one row for each frame that gets a pose."""

    def __init__(
        self,
        head: HeadModel,
        cameras: list[Camera],
        observations: LandmarkSource,
        options: FitOptions,
        frames: np.ndarray,
        progress: Progress = lambda _: None,
    ) -> None:
        self.head, self.observations, self.options = head, observations, options
        self.frames, self.progress = frames, progress
        self.shot = np.zeros(len(frames), int)
        """Number of the shot each frame belongs to, once first poses are known."""
        self.placed = list(range(len(cameras)))
        """Cameras with extrinsics, given or found."""
        self.told: Told | None = None
        """Once known, where one camera alone sees the head."""
        self.bias_lengths: Tensor | None = None
        """(L,) once the network's bias is among the unknowns (`bias.py`)."""
        self.level: Tensor | None = None
        """(C,) deviation of the errors over sigma, from the residuals before the bias was solved
        for."""
        self._models: dict[torch.dtype, LandmarkModel] = {}
        self._kept: tuple[np.ndarray, Planes] | None = None
        estimate = options.estimate_focal
        every = options.refine_cameras == "all" if estimate is None else estimate
        self.free_focal = [c.K is None or every for c in cameras]
        self.unknown_focal = [c.K is None or bool(estimate) for c in cameras]
        self.refine = options.refine_cameras != "off"
        self.prior = camera_prior(cameras, options)
        self.cameras = [
            c if c.K is not None else replace(c, K=guessed_intrinsics(c, options.focal_factor))
            for c in cameras
        ]
        unknown = camera_state(self.cameras, self.free_focal, self.refine)[0]
        self.landmark_weights = landmark_region_weights(head, options)
        self.with_identity = options.identity is None
        self.noise = noise_model(len(head.landmark_vertices), options)
        """How the landmarks err, None: each by itself."""
        start = np.zeros(head.identity_count) if options.identity is None else options.identity
        self.first_identity = torch.tensor(np.asarray(start), dtype=torch.float64)
        self.set_model(precision(options, unknown))

    @property
    def with_bias(self) -> bool:
        """The network's bias is solved for, sooner or later: with an identity that is known there
        is little left of it."""
        options = self.options
        wanted = self.with_identity and options.bias_scale > 0 and options.identity_weight > 0
        return wanted and self.noise is not None

    def set_model(self, dtype: torch.dtype) -> None:
        """Use planes of another precision."""
        if dtype not in self._models:
            self._models[dtype] = landmark_model(self.head, dtype)
        plain = self._models[dtype]
        self.points = neutral_planes(plain, self.first_identity)
        self.normals = torch.tensor(landmark_normals(self.head).T, dtype=dtype)
        self.model: LandmarkModel = plain
        if self.bias_lengths is not None:
            assert self.noise is not None
            factor = self.noise.factor * self.options.bias_scale
            weight = self.options.identity_weight
            self.model = with_bias(plain, factor, self.bias_lengths, weight)

    def begin_bias(self, state: State, planes: Planes) -> State:
        """From a state of the plain head to one of the head with the network's bias, which is zero.

        Args:
            planes: of the state's frames, with the sigmas as they are believed.
        """
        world = self.world(state.identity, state.motion)
        residual = measured_sigma_scale(planes, world, state.cameras, bounded=False)
        self.level = error_level(residual)
        self.bias_lengths = bias_lengths(
            planes, self.points, state.motion, state.cameras, self.level
        )
        self.set_model(self.model.dtype)
        more = state.identity.new_zeros(self.model.bias)
        return replace(state, identity=torch.cat([state.identity, more]))

    def end_bias(self) -> None:
        """Back to the plain head."""
        self.bias_lengths = self.level = None
        self.set_model(self.model.dtype)

    def without_bias(self, identity: Tensor) -> Tensor:
        """The same coefficients, as if the network had none."""
        kept = identity.clone()
        kept[self.head.identity_count :] = 0
        return kept

    def raw_planes(self, picked: np.ndarray) -> Planes:
        """Planes of some frames, with precision from sigma and region alone.

        The last ones are kept: a short take asks for the same frames twice.
        """
        kept = self._kept
        if kept and kept[1].xy.dtype == self.model.dtype and np.array_equal(kept[0], picked):
            return kept[1]
        part = self.observations.take(self.frames[picked])
        if not self.options.use_sigma:
            part = without_sigma(part)
        flat = normalize_observations(
            part, self.cameras, self.landmark_weights, self.options.sigma_floor_px
        )
        dtype = self.model.dtype
        xy = torch.from_numpy(flat.xy).to(dtype).permute(0, 3, 1, 2).contiguous()
        planes = Planes(xy, torch.tensor(flat.precision, dtype=dtype))
        self._kept = (picked, planes)
        return planes

    @property
    def seen(self) -> np.ndarray:
        """(F,) bool, of the frames to solve: a camera found the head whose place is known or was
        found. What others see tells nothing."""
        valid = np.asarray(self.observations.valid)[self.frames]
        return np.asarray(valid[:, self.placed].any(axis=1))

    def planes(
        self, picked: np.ndarray, motion: Motion, cameras: CameraState, sigma_scale: Tensor
    ) -> Planes:
        """Planes of some frames with the precision that their motion suggests.

        Args:
            sigma_scale: (C,) multiplies the sigmas.
        """
        raw = self.raw_planes(picked)
        planes = self.adjusted(raw, cameras, motion.rotation, motion.translation)
        return scaled(planes, sigma_scale)

    def adjusted(
        self, raw: Planes, cameras: CameraState, rotation: Tensor, shift: Tensor
    ) -> Planes:
        """Planes with the precision that the head's poses suggest."""
        head = (self.points, self.normals)
        planes = adjust_precision(raw, *head, cameras, rotation, shift, self.options)
        unplaced = [c for c in range(len(self.cameras)) if c not in self.placed]
        planes.precision[:, unplaced] = 0
        return planes

    def priors(self, picked: np.ndarray, seen: int | None = None) -> Priors:
        """Priors of some frames, as part of `seen` frames with landmarks (default: themselves)."""
        time = torch.tensor(self.observations.time[self.frames[picked]], dtype=torch.float64)
        if seen is None:
            seen = int(self.seen[picked].sum())
        shot = torch.from_numpy(self.shot[picked])
        priors = make_priors(self.model, self.options, time, seen, self.prior, shot)
        return priors if self.told is None else self._outward(priors, picked, seen)

    def _outward(self, priors: Priors, picked: np.ndarray, seen: int) -> Priors:
        """With E_distance, identity's part of it shared among all frames of the take."""
        assert self.told is not None and self.viewpoint is not None
        every = self.seen
        each = self.told.share(int(every.sum()), self.options)
        share = each * torch.from_numpy(every[picked].astype(np.float64))
        cameras = replace(
            priors.cameras, focal_pull=torch.full_like(priors.cameras.focal_pull, each * seen)
        )
        return replace(priors, outward=Outward(share, self.viewpoint), cameras=cameras)

    @property
    def viewpoint(self) -> Tensor | None:
        """(3,): where the camera stands that alone sees the head, in the world; None where several
        see it."""
        valid = np.asarray(self.observations.valid)
        seeing = [c for c in self.placed if valid[:, c].any()]
        if len(seeing) > 1:
            return None
        given = self.cameras[int(seeing[0])].T_camera_world
        if given is None:
            return torch.zeros(3, dtype=torch.float64)
        return torch.from_numpy(-given[:3, :3].T @ given[:3, 3])

    def world(self, identity: Tensor, motion: Motion) -> Tensor:
        """Landmarks (t, 3, L) in the world."""
        whose = person(self.model, identity)
        return pose_landmarks(self.model, whose, motion, rotations(motion)).world


def frames_to_solve(
    seen: np.ndarray, time: np.ndarray, options: FitOptions, shot: np.ndarray | None = None
) -> np.ndarray:
    """Indices of the frames that get a pose: seen by a camera, or inside a gap that the smoother
    bridges.

    Args:
        shot: (T,) number of the shot each frame belongs to, once known; no gap between two shots is
            bridged.
    """
    bridged = seen.copy()
    index = np.flatnonzero(seen)
    if not options.independent_frames and options.temporal_weight > 0:
        for before, after in zip(index[:-1], index[1:], strict=True):
            near = time[after] - time[before] <= options.max_gap * (1 + 1e-6)
            if near and (shot is None or shot[before] == shot[after]):
                bridged[before:after] = True
    return np.flatnonzero(bridged)


def precision(options: FitOptions, cameras: CameraState) -> torch.dtype:
    """Of the landmark planes: where cameras stand against depth and shape is a matter of the last
    digits of a float32, but for the one case in which `dolly.py` takes that out."""
    single = not cameras.unknowns or alone(cameras)
    return torch.float32 if single and not options.double else torch.float64


def pieces(count: int, size: int) -> Iterator[np.ndarray]:
    """Indices 0 ... count - 1, `size` at a time."""
    for start in range(0, count, size):
        yield np.arange(start, min(count, start + size))
