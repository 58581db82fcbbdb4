"""Are the rig's units right? Triangulated eyes stand about 63 mm apart in every grown person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.rig import METRES
from calibration.triangulation import triangulate
from densefit.errors import InputError
from densefit.progress import warn

if TYPE_CHECKING:
    from calibration import Rig
    from densefit.fit_inputs import FitInputs
    from densefit.head.model import HeadModel

ADULT_EYES = (0.052, 0.075)
"""m: three deviations about the mean distance of adults' pupils, 63.4 mm with 3.8 (Dodgson,
Variation and extrema of human interpupillary distance, 2004). A child of five may have 40 mm."""

# Distance of the middles of the lids: mean of adults, and what may still be a head whose unit is
# wrong (children included).
_EYE_DISTANCE = 0.063
_PLAUSIBLE = (0.7, 1.35)

# Lids of the right and the left eye in iBUG's order.
_EYES = (slice(36, 42), slice(42, 48))

# Frames that are looked at, spread over the take.
_FRAMES = 200


def check_units(inputs: FitInputs, head: HeadModel, rig: Rig | None) -> None:
    """Compare the triangulated distance of the eyes with that of people.

    A distance that adults do not have is a warning. Nothing is said where fewer than two
    calibrated cameras see the head at the same time.

    Args:
        rig: of the take, as read; None: no camera is calibrated.
    Raises:
        InputError: it is wrong by a factor of 10, 100 or 1000; names file and likely unit.
    """
    distance = eye_distance(inputs, head)
    if distance is None:
        return
    if ADULT_EYES[0] < distance < ADULT_EYES[1]:
        return
    ratio = distance / _EYE_DISTANCE
    power = round(np.log10(ratio))
    if 1 <= abs(power) <= 3 and _PLAUSIBLE[0] < ratio / 10.0**power < _PLAUSIBLE[1]:
        wrong = f"{10 ** abs(power)} times too {'large' if power > 0 else 'small'}"
        file = "rig" if rig is None or rig.path is None else rig.path
        raise InputError(
            f"{file}: the eyes are {_length(distance)} apart when triangulated, {wrong}; "
            + _advice("m" if rig is None else rig.units, power)
        )
    warn(
        f"the eyes are {_length(distance)} apart when triangulated ({adult_eyes()}); check "
        "calibration (the board's square, units, focal lengths) and synchronization"
    )


def adult_eyes() -> str:
    """`ADULT_EYES` for messages."""
    return f"adults: {1000 * ADULT_EYES[0]:.0f} to {1000 * ADULT_EYES[1]:.0f} mm, children less"


def _advice(stated: str, power: int) -> str:
    """What to do about translations that came out 10**power too large."""
    for unit, metres in METRES.items():
        if np.isclose(metres * 10.0**power, METRES[stated]):
            return f"set units to {unit}: it says {stated}, but translations seem to be in {unit}"
    todo = "divide" if power > 0 else "multiply"
    return (
        f"{todo} the translations of T_camera_world by {10 ** abs(power)}: they are not in "
        f"{stated}, as it says"
    )


def eye_distance(inputs: FitInputs, head: HeadModel) -> float | None:
    """Metres between the middles of the eyes' lids, median over the frames; None if unknown."""
    columns = [
        c for c, camera in enumerate(inputs.cameras)
        if camera.K is not None and camera.T_camera_world is not None
    ]  # fmt: skip
    valid = np.asarray(inputs.observations.valid)[:, columns]
    frames = np.flatnonzero(valid.sum(1) >= 2)
    if len(frames) == 0:
        return None
    frames = frames[np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).astype(int)]
    xy = inputs.observations.take(frames).xy[:, columns]
    cameras = [inputs.cameras[c] for c in columns]
    # Where a camera has no head, its landmarks are NaN.
    eyes = [
        triangulate(cameras, np.moveaxis(xy[:, :, head.ibug68[lids]].mean(2), 1, 0).astype(float))
        for lids in _EYES
    ]
    distance = np.linalg.norm(eyes[0] - eyes[1], axis=1)
    return float(np.nanmedian(distance)) if np.isfinite(distance).any() else None


def _length(metres: float) -> str:
    return f"{metres:.3g} m" if metres >= 1 else f"{1000 * metres:.3g} mm"
