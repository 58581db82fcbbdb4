"""Settings of the fit: weights of every term of the energy, limits of the solver, defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np

# Size of each ARKit shape in talking and acting people where it is used at all, in [0, 1]. Left and
# right share an entry. The eyeLook shapes follow the eye joints and have no prior.
EXPRESSION_SD = MappingProxyType({
    "eyeBlink": 0.8, "eyeSquint": 0.5, "eyeWide": 0.5,
    "jawForward": 0.25, "jawLeft": 0.25, "jawRight": 0.25, "jawOpen": 0.55,
    "mouthClose": 0.3, "mouthFunnel": 0.4, "mouthPucker": 0.5, "mouthLeft": 0.3,
    "mouthRight": 0.3,
    "mouthSmile": 0.7, "mouthFrown": 0.4, "mouthDimple": 0.3, "mouthStretch": 0.4,
    "mouthRollLower": 0.4, "mouthRollUpper": 0.4,
    "mouthShrugLower": 0.4, "mouthShrugUpper": 0.4,
    "mouthPress": 0.4, "mouthLowerDown": 0.5, "mouthUpperUp": 0.5,
    "browDown": 0.55, "browInnerUp": 0.55, "browOuterUp": 0.55,
    "cheekPuff": 0.3, "cheekSquint": 0.5, "noseSneer": 0.4, "tongueOut": 0.15,
})  # fmt: skip

# Multiplies 1/sigma^2 of the landmarks of a region, by part of the region's name. What a network
# sees of ears, scalp and neck is mostly hair and collar: it guesses. Tongues do what no shape says.
REGION_WEIGHTS = MappingProxyType({
    "ear": 0.5, "scalp": 0.3, "neck": 0.3, "teeth": 0.3, "tongue": 0.3,
})  # fmt: skip


def _expression_sd() -> Mapping[str, float]:
    return EXPRESSION_SD


def _region_weights() -> Mapping[str, float]:
    return REGION_WEIGHTS


@dataclass(frozen=True)
class FitOptions:
    """All settings of `densefit.fit.fit`. Metres, radians, seconds, pixels.

    E = E_landmarks / correlation + E_identity + E_bias + E_expression + E_joints + E_temporal +
    E_intersect (+ E_cameras)
    """

    identity: np.ndarray | None = None
    """(K,) coefficients of a person who is known already; None: solved for."""
    independent_frames: bool = False
    """Every frame stands on its own (a folder of photos): no temporal term at all."""
    estimate_focal: bool | None = None
    """Solve for the focal length of every camera; None: of the cameras without K."""

    landmarks: Literal[68, 320, 703] = 703
    """How many of a head's landmarks count: iBUG's, those of the face, or all."""
    use_sigma: bool = True
    """False: all landmarks of a picture are as certain as its median one (an ablation)."""

    robust_scale: float = 4.0
    """c in standard deviations of rho(s) = c^2/2 s/(s + c^2), s = |x - mu|^2/sigma^2
    (Geman-McClure)."""
    robust_start: tuple[float, ...] = (30.0, 10.0)
    """Larger c of the stages before: far outliers lose their pull step by step."""
    correlation: float = 15.0
    """Divides E_landmarks. Errors of one picture's landmarks go together, so that 703 of them carry
    about as much as 703 / correlation independent ones; those that all pictures have in common are
    solved for, too (`bias_scale`). 1: errors are independent, and there is no bias either."""
    bias_scale: float = 1.7
    """What a network sees wrongly in all pictures of a person, over what it does on renders: E_bias
    = 1/2 |z|^2, displacements of the landmarks bias_scale s G z (see `bias.py`). Among the unknowns
    once the stages of `robust_start` are done, where identity is one. 0: none."""
    sigma_scale: float | None = None
    """Multiplies every sigma; None: measured from the residuals, per camera."""
    sigma_floor_px: float = 0.3
    """Added to every sigma in quadrature, px."""
    model_sigma: float = 0.4e-3
    """What the head model cannot represent, m; added to every sigma in quadrature at the head's
    depth."""
    hidden_weight: float = 0.1
    """Multiplies 1/sigma^2 of landmarks whose surface faces away from the camera: a network that
    does not see them guesses, with a sigma that is too small. 1: trust sigma alone."""
    region_weights: Mapping[str, float] = field(default_factory=_region_weights)
    """Multiplies 1/sigma^2 of landmark regions whose name contains the key; first match counts."""

    identity_weight: float = 0.7
    """E_identity = weight/2 |beta|^2, times `identity_frames` growth below. 1 is what people
    scatter by, against landmarks that err as `correlation` says (chosen on renders of people who
    are in no training data, see docs/fit.md)."""
    identity_frames: float = 30.0
    """A network's bias is the same in every frame: beyond this many frames the priors of identity
    and focal length grow with their number, as if no more frames had been seen. inf: never."""
    expression_weight: float = 0.7
    """Multiplies the whole expression prior."""
    expression_sd: Mapping[str, float] = field(default_factory=_expression_sd)
    """s_e of E_expression = 1/2 sum (psi_e / s_e)^2, by ARKit name, with or without Left/Right."""
    expression_rest: float = 0.6
    """r of r sum psi_e / s_e beside the squares: people are at rest most of the time. Unlike
    squares it also counts for small values, which identity can explain as well."""
    asymmetry_sd: float = 0.3
    """Left against right: 1/2 sum ((psi_left - psi_right) / asymmetry_sd)^2; inf: none."""
    neck_sd: float = 0.15
    """Neck joint, rad per axis."""
    eye_sd: float = 0.3
    """Mean direction of both eyes, rad per axis."""
    eye_vertical_sd: float = 0.03
    """Difference of the two eyes' elevation, rad."""
    eye_vergence_sd: float = 0.1
    """Difference of the two eyes' azimuth, rad."""

    shape_rate: float = 4e-3
    """Non-rigid motion in the head frame, root mean square over vertices, m per sqrt(s):
    E = 1/2 sum_t |V_t - V_t-1|^2 / (V rate^2 dt), a random walk."""
    expression_rate: float = 1.0
    """Every single expression beside that, per sqrt(s): shapes that work against one another (brows
    up and down) may change together without moving anything; inf: none."""
    blink_rate: float = 4.0
    """The same of the blinks: lids shut within three frames."""
    rotation_rate: float = 1.0
    """Rotation of the head, rad per sqrt(s)."""
    translation_rate: float = 0.1
    """Translation of the head, m per sqrt(s)."""
    neck_rate: float = 0.3
    """Neck joint, rad per sqrt(s)."""
    eye_rate: float = 1.5
    """Eye joints, rad per sqrt(s): saccades are fast."""
    temporal_weight: float = 1.0
    """Multiplies the whole temporal term; 0: none."""
    max_gap: float = 0.25
    """No temporal term across longer gaps, s; shorter ones are filled by the smoother."""

    contact_sd: float = 0.1e-3
    """Depth of skin in an eyeball, or of lips in the teeth, that costs one half, m: E =
    1/2 sum (depth / contact_sd)^2 over the vertices inside; inf: none."""

    distance_weight: float = 1.0
    """Multiplies E_distance, which takes out by how much the priors of deformations pull a head
    before one camera nearer (`distance.py`); 0: none."""

    refine_cameras: Literal["off", "extrinsics", "all"] = "off"
    """What of given cameras may move: nothing, extrinsics, or extrinsics and focal length, with
    the deviations of the rig file (`std`), else those below, as priors."""
    refine_rotation_sd: float = 5e-3
    """rad per axis."""
    refine_translation_sd: float = 3e-3
    """m per axis, of the centre of projection."""
    refine_focal_sd: float = 0.01
    """Standard deviation of log focal length."""
    focal_factor: float = 1.2
    """Median of the focal prior, in units of the picture's longer side."""
    focal_sd: float = 0.3
    """Standard deviation of log focal length in the prior."""

    keyframes: int = 100
    """Identity and cameras of a longer take come from this many frames."""
    joint_frames: int = 240
    """Takes of up to this many frames are solved jointly in one piece."""
    window: int = 320
    """Frames solved at once at fixed identity."""
    overlap: int = 16
    """Frames on either side of a window that are solved but not kept."""
    chunk: int = 96
    """Frames whose landmark planes are in memory at once."""
    max_iterations: int = 40
    """Per stage of the robust loss."""
    tolerance: float = 1e-4
    """Relative decrease of the energy that ends the last stage."""
    threads: int | None = None
    """Threads of torch; None: as they are."""
    double: bool = False
    """Landmark planes in float64 (tests); the factorization always is."""
