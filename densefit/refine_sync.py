"""`--refine-sync`: the cameras' clocks corrected by the motion of the head itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from densefit.capture.timeline import grouped_by_table
from densefit.errors import InputError
from densefit.progress import info, warn

if TYPE_CHECKING:
    from densefit.capture import Take
    from densefit.fit import FitOptions
    from densefit.fit.sync import Offsets
    from densefit.fit_inputs import FitInputs
    from densefit.head.model import HeadModel

ROUNDS = 4
SETTLED = 0.01
"""Of a frame: corrections below this end the search."""
DRIFT_SIGNIFICANT = 4.0
"""Standard deviations by which two excerpts must differ before a clock rate is changed."""


@dataclass(frozen=True)
class Excerpt:
    """Corrections from one part of a take."""

    moment: float
    """s on the master clock: the middle of the frames that they were measured in."""
    offsets: Offsets


def check_refine_sync(take: Take) -> None:
    """InputError where the clocks of a take cannot be refined, known before any work.

    That is: frames that belong together by a table, single pictures, or one camera alone.
    """
    if take.independent_frames or len(take.sources) < 2:
        raise InputError(f"{take.name}: --refine-sync needs recordings of at least two cameras")
    if grouped_by_table(take):
        raise InputError(
            f"{take.name}: the sync table itself says which frames belong together; leave out "
            "--refine-sync, or give sync: pts in take.yaml"
        )


def refine_sync(
    take: Take, head: HeadModel, options: FitOptions, inputs_of: Callable[[Take], FitInputs]
) -> Take:
    """The take with corrected `offsets`, and `clock_rates` where it is long enough to tell.

    Args:
        inputs_of: landmarks of all cameras on the timeline of a take.
    Raises:
        InputError: as `check_refine_sync`.
    """
    check_refine_sync(take)
    inputs = inputs_of(take)
    if len(inputs.cameras) < 2:
        warn(f"only camera {inputs.cameras[0].name} shows a head: the clocks stay as they are")
        return take
    steps = np.diff(inputs.observations.time)
    period = float(np.median(steps)) if len(steps) else 0.0
    first: Mapping[str, float] = take.offsets
    for _ in range(ROUNDS):
        # On corrected clocks other cameras may have a head in a frame.
        names = [c.name for c in inputs.cameras]
        excerpts = _excerpts(head, inputs, options)
        take = _corrected(take, names, excerpts)
        if max(np.abs(e.offsets.seconds).max() for e in excerpts) <= SETTLED * period:
            break
        inputs = inputs_of(take)
    _report(take, first, names, excerpts)
    return take


def _excerpts(head: HeadModel, inputs: FitInputs, options: FitOptions) -> list[Excerpt]:
    """One excerpt, or two far apart where the take is long."""
    from densefit.fit import fit_offsets

    frames = len(inputs.observations.time)
    parts = [range(frames)]
    if frames > 4 * options.joint_frames:
        parts = [range(frames // 3), range(2 * frames // 3, frames)]
    out = []
    for part in parts:
        found = fit_offsets(head, inputs.cameras, inputs.observations, options, part)
        # Pictures too far apart to be interpolated show the head when they say they do.
        late = np.array([c.lateness(found.frames) for c in inputs.observations.columns])
        found = replace(found, seconds=found.seconds - (late - late[0]))
        out.append(Excerpt(float(inputs.observations.time[found.frames].mean()), found))
    return out


def _corrected(take: Take, names: list[str], excerpts: list[Excerpt]) -> Take:
    """t_master = rate t + offset, moved by what the excerpts say."""
    offsets, rates = dict(take.offsets), dict(take.clock_rates)
    for c, name in enumerate(names):
        shift, drift = _shift_and_drift(excerpts, c)
        # A shift at the first excerpt's moment that grows by `drift` a second.
        offset, rate = offsets.get(name, 0.0), rates.get(name, 1.0)
        offsets[name] = offset * (1 + drift) + shift - drift * excerpts[0].moment
        rates[name] = rate * (1 + drift)
    return replace(take, offsets=offsets, clock_rates=rates)


def _shift_and_drift(excerpts: list[Excerpt], camera: int) -> tuple[float, float]:
    """What the excerpts that know of a camera say: a shift in seconds, and by how much it grows a
    second from the first excerpt on."""
    known = [e for e in excerpts if np.isfinite(e.offsets.std[camera])]
    if not known:
        return 0.0, 0.0
    first, last = known[0], known[-1]
    apart = float(last.offsets.seconds[camera] - first.offsets.seconds[camera])
    spread = float(np.hypot(first.offsets.std[camera], last.offsets.std[camera]))
    if abs(apart) > DRIFT_SIGNIFICANT * spread > 0:
        return float(first.offsets.seconds[camera]), apart / (last.moment - first.moment)
    return float(first.offsets.seconds[camera] + last.offsets.seconds[camera]) / 2, 0.0


def _report(
    take: Take, first: Mapping[str, float], names: list[str], excerpts: list[Excerpt]
) -> None:
    """Args: names: of the cameras of `excerpts`, in their order."""
    for c, name in enumerate(names):
        moved = take.offsets[name] - first.get(name, 0.0)
        spread = min((e.offsets.std[c] for e in excerpts), key=lambda s: (np.isnan(s), s))
        if not np.isfinite(spread):
            warn(f"camera {name}: too little motion to tell its time offset")
        elif c:
            info(f"  {name}: {1e3 * moved:+.2f} ms (give or take {1e3 * spread:.2f})")
