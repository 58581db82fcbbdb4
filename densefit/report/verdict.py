"""A plain verdict on a fit: good, usable, or look here, with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from densefit.fit_meta import sizes_of_given_identity
from densefit.report.evidence import Evidence
from densefit.rig_units import ADULT_EYES, adult_eyes

NOTE, GOOD, USABLE, LOOK = "note", "good", "usable", "look here"
LEVELS = (NOTE, GOOD, USABLE, LOOK)

# Median residual over the side of the face's square (about 1.4 times the face's height). On renders
# with known truth 0.2 % goes with vertices 2 mm off, so these leave room for real pictures.
GOOD_RESIDUAL, USABLE_RESIDUAL = 0.008, 0.016
# Of the frames in which the recordings could show the head.
GOOD_SHARE, USABLE_SHARE = 0.95, 0.6
# A camera beside the median of the others, and a frame beside the median of its camera.
ODD_CAMERA, ODD_FRAME = 2.0, 3.0
# Of a region's median distance over sigma, which is 1.18 where the head can follow and sigma tells
# the truth. Good fits of films and rigs stay below 1.2 in all regions but those that mouths, hair
# and collars mostly hide (teeth 1.9, scalps 1.6); fits with a wrong calibration have 1.5 to 18.
ODD_REGION = 1.5
_MOSTLY_HIDDEN = frozenset(("teeth", "tongue", "scalp", "ear", "neck"))
SMALL_FACE_PX = 60
# Of the identity coefficients, in standard deviations: the largest of 256 normal deviates is above
# 4.1 once in a thousand people, fits of real people stay below 3.
ODD_IDENTITY = 4.0


@dataclass(frozen=True)
class Reason:
    """One finding, and how far it pulls the verdict down."""

    level: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """The worst level among the reasons."""

    level: str
    reasons: tuple[Reason, ...]


def judge(evidence: Evidence) -> Verdict:
    """Judge a fit by how well it explains the landmarks and how much it saw."""
    reasons = [
        _coverage(evidence),
        *_residuals(evidence),
        *_regions(evidence),
        *_cameras(evidence),
        *_odd_frames(evidence),
        *_small_faces(evidence),
        *_one_moment(evidence),
        *_scale(evidence),
    ]
    reasons.sort(key=lambda reason: -LEVELS.index(reason.level))
    return Verdict(reasons[0].level, tuple(reasons))


def _level(value: float, good: float, usable: float) -> str:
    return GOOD if value <= good else USABLE if value <= usable else LOOK


def _coverage(evidence: Evidence) -> Reason:
    valid = evidence.fit.valid
    share = float(valid.mean())
    level = _level(1 - share, 1 - GOOD_SHARE, 1 - USABLE_SHARE)
    text = f"The head was seen in {int(valid.sum())} of {len(valid)} frames ({share:.0%})."
    if level != GOOD:
        text += " Check that the face is in view, lit, and not covered in the missing frames."
    return Reason(level, text)


def _residuals(evidence: Evidence) -> list[Reason]:
    if not evidence.relative_residual:
        return []
    value = float(np.median(list(evidence.relative_residual.values())))
    level = _level(value, GOOD_RESIDUAL, USABLE_RESIDUAL)
    text = f"The head explains the landmarks to {value:.2%} of the face's square (median)."
    if level != GOOD:
        text += (
            f" Good fits stay below {GOOD_RESIDUAL:.1%}: look at the worst frames below; with "
            f"several cameras, check calibration and synchronization first."
        )
    return [Reason(level, text)]


def _regions(evidence: Evidence) -> list[Reason]:
    """The worst first, as in `evidence`."""
    odd = [
        region
        for region in evidence.regions
        if region.in_sigmas > ODD_REGION and _MOSTLY_HIDDEN.isdisjoint(region.name.split())
    ]
    if not odd:
        return []
    named = ", ".join(f"{region.name} ({region.in_sigmas:.1f})" for region in odd[:4])
    more = f" and {len(odd) - 4} more regions" if len(odd) > 4 else ""
    text = (
        f"The head does not follow {named}{more}: their residual is above {ODD_REGION} of the "
        "landmarks' sigma. Look at them in the frames below before relying on them."
    )
    return [Reason(USABLE, text)]


def odd_cameras(residual: Mapping[str, float], times: float = ODD_CAMERA) -> dict[str, float]:
    """The cameras that disagree with the others: how many times the others' median they have.

    Args:
        residual: of each camera over the side of the face's square there.
        times: what is more than that is odd.
    """
    found = {}
    for name, value in residual.items():
        others = [other for key, other in residual.items() if key != name]
        if others and value > times * np.median(others):
            found[name] = float(value / np.median(others))
    return found


def _cameras(evidence: Evidence) -> list[Reason]:
    found = []
    odd = odd_cameras(evidence.relative_residual)
    for name in evidence.cameras:
        column = evidence.cameras.index(name)
        if not np.isfinite(evidence.fit.residual_px[:, column]).any():
            found.append(Reason(LOOK, _no_part(evidence, name)))
        if name in odd:
            found.append(
                Reason(
                    LOOK,
                    f"Camera {name} disagrees with the others ({odd[name]:.1f} times their "
                    "residual): its picture is blurred, it sees the face from the side or small, "
                    "or calibration or time offset of one of the cameras is wrong, not always of "
                    "this one; `densefit rig check` looks for mistakes in the rig.",
                )
            )
    return found


def _no_part(evidence: Evidence, name: str) -> str:
    if name in evidence.tracks and evidence.tracks[name].valid.any():
        return (
            f"Camera {name} never shows the head together with a camera whose place is known; it "
            "takes no part."
        )
    return f"Camera {name} never found the head; it takes no part."


def _odd_frames(evidence: Evidence) -> list[Reason]:
    found = []
    for column, name in enumerate(evidence.cameras):
        values = evidence.fit.residual_px[:, column]
        seen = np.isfinite(values)
        if seen.sum() < 5:
            continue
        odd = np.flatnonzero(seen & (values > ODD_FRAME * np.nanmedian(values)))
        if len(odd):
            share = len(odd) / seen.sum()
            runs = ", ".join(_runs(odd)[:6])
            level = USABLE if share < 0.05 else LOOK
            text = f"Camera {name}: {len(odd)} frames far worse than its median ({runs})."
            found.append(Reason(level, text))
    return found


def _runs(frames: np.ndarray) -> list[str]:
    """Consecutive frame numbers as `12` or `12 to 20`."""
    groups = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    return [f"{g[0]}" if len(g) == 1 else f"{g[0]} to {g[-1]}" for g in groups if len(g)]


def _small_faces(evidence: Evidence) -> list[Reason]:
    small = [n for n, side in evidence.face_px.items() if side < SMALL_FACE_PX * 1.4]
    if not small:
        return []
    text = f"The face is small in {', '.join(small)}: pose is measured, expression hardly."
    return [Reason(USABLE, text)]


def _one_moment(evidence: Evidence) -> list[Reason]:
    if evidence.fit.valid.sum() > 1:
        return []
    text = "A single moment cannot tell the person's shape from the expression: give more frames."
    return [Reason(NOTE, text)]


def _scale(evidence: Evidence) -> list[Reason]:
    calibrated = evidence.fit.meta["scale"] == "calibrated"
    found = []
    if calibrated and (odd := _unlike_people(evidence)):
        remedy = (
            "Check the rig: the board's square, units, focal lengths, and which recording is which "
            "camera's."
        )
        found.append(Reason(LOOK, f"Hardly any adult has such a head: {odd}. {remedy}"))
    if given := sizes_of_given_identity(evidence.fit.meta):
        return [*found, Reason(NOTE, f"{given[0].upper()}{given[1:]}.")]
    if calibrated:
        return found or [Reason(GOOD, "Sizes are calibrated: they are those of the rig.")]
    deviation = evidence.fit.meta.get("scale_std")
    known = ""
    if isinstance(deviation, float) and deviation:
        known = f" (give or take {deviation:.1%}, one standard deviation)"
    one = " A single camera cannot measure depth well either." if len(evidence.cameras) == 1 else ""
    return [Reason(NOTE, f"Sizes are estimates from the average head, not measured{known}.{one}")]


def _unlike_people(evidence: Evidence) -> str:
    """What of the fitted person no adult has; empty if nothing. Wrong sizes of a rig show in it."""
    found = []
    if not ADULT_EYES[0] < evidence.eye_distance < ADULT_EYES[1]:
        found.append(f"its eyes are {1000 * evidence.eye_distance:.0f} mm apart ({adult_eyes()})")
    largest = float(np.abs(evidence.fit.identity).max(initial=0.0))
    if largest > ODD_IDENTITY:
        found.append(f"identity is {largest:.1f} standard deviations from the average head")
    return ", ".join(found)
