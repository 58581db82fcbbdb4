"""Are the rig's units right? Triangulated eyes stand about 63 mm apart in every grown person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.triangulation import triangulate
from densefit.errors import InputError
from densefit.progress import warn

if TYPE_CHECKING:
    from densefit.fit_inputs import FitInputs
    from densefit.head.model import HeadModel

# Distance of the middles of the lids: mean of adults, and what is still a head (children included).
_EYE_DISTANCE = 0.063
_PLAUSIBLE = (0.7, 1.35)

# Lids of the right and the left eye in iBUG's order.
_EYES = (slice(36, 42), slice(42, 48))

# Frames that are looked at, spread over the take.
_FRAMES = 200

# What to do about translations that came out 10**power too large.
_ADVICE = {
    3: "set it to mm where it says m",
    2: "set it to cm where it says m",
    1: "set it to mm where it says cm",
    -1: "set it to cm where it says mm",
    -2: "set it to m where it says cm",
    -3: "set it to m where it says mm",
}


def check_units(inputs: FitInputs, head: HeadModel) -> None:
    """Compare the triangulated distance of the eyes with that of people.

    Nothing is said where fewer than two calibrated cameras see the head at the same time.

    Raises:
        InputError: it is wrong by a factor of 10, 100 or 1000; names the likely unit.
    """
    distance = eye_distance(inputs, head)
    if distance is None:
        return
    ratio = distance / _EYE_DISTANCE
    if _PLAUSIBLE[0] < ratio < _PLAUSIBLE[1]:
        return
    power = round(np.log10(ratio))
    if power in _ADVICE and _PLAUSIBLE[0] < ratio / 10.0**power < _PLAUSIBLE[1]:
        wrong = f"{10 ** abs(power)} times too {'large' if power > 0 else 'small'}"
        raise InputError(
            f"rig: the eyes are {_length(distance)} apart when triangulated, {wrong}; translations "
            f"of T_camera_world are in another unit than 'units' of rig.yaml says: {_ADVICE[power]}"
        )
    warn(
        f"the eyes are {_length(distance)} apart when triangulated (people: 55 to 72 mm); check "
        "calibration, units and synchronization"
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
