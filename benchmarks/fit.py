"""Speed of the joint fit.

    python benchmarks/fit.py [--json FILE] [--frames 120] [--cameras 1 3 8 16] [--threads 1]
        [--peer-frames 4]

Landmarks are those of the shipped head with 1 px noise and 2 % outliers. Frames a second count all
of `fit` (first poses, solve, deviations): with identity unknown (takes over 240 frames through
keyframes and windows) and with identity known; wall time with more than one thread, process time
with one. An iteration is one linearization and one step. Peak memory is that of the process so far.
The peer minimises the very same energy of a few frames from the same start with autograd and L-BFGS
(strong Wolfe, history 20, float64) until it is within 1e-3 of the fit's minimum.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from densefit.fit import FitOptions, fit
from densefit.fit.joint_fit import JointFit
from densefit.fit.linearization import LossSettings, linearize
from densefit.fit.newton_step import solve_step
from densefit.fit.solver import minimize, step_box
from densefit.head import HeadModel, load_head
from tests.fit.reference_energy import ReferenceEnergy
from tests.fit.synthetic import camera_ring, observe, sample_truth

CLOSE = 1e-3


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None


def clock() -> float:
    """Seconds: of the process on one thread, of the wall on more."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def throughput(head: HeadModel, cameras: int, frames: int, options: FitOptions, name: str) -> Row:
    """Frames a second of the whole fit."""
    rig = camera_ring(cameras)
    truth = sample_truth(head, frames)
    observations = observe(head, rig, truth, 1.0, outliers=0.02)
    if options.identity is not None:
        options = replace(options, identity=truth.identity)
    start = clock()
    fit(head, rig, observations, options)
    return Row(name, frames / (clock() - start), "frames/s")


def stages(head: HeadModel, cameras: int, frames: int = 60) -> list[Row]:
    """Milliseconds a frame of the parts of one iteration, identity known and unknown."""
    rig = camera_ring(cameras)
    observations = observe(head, rig, sample_truth(head, frames), 1.0, outliers=0.02)
    rows = []
    with torch.no_grad():
        job = JointFit(head, rig, observations, FitOptions(), np.arange(frames))
        begun = clock()
        start, planes, priors = job.first_state()
        rows.append(("first poses", clock() - begun))
        loss = LossSettings(4.0, 15.0, False, 48)
        for known, name in ((True, "identity known"), (False, "identity unknown")):
            begun = clock()
            system = linearize(job.model, planes, priors, start, loss, not known)
            rows.append((f"linearization, {name}", clock() - begun))
            begun = clock()
            solve_step(system, priors, step_box(job.model, start), 1e-3, None)
            rows.append((f"step, {name}", clock() - begun))
    return [Row(f"{n}, {cameras} cameras", 1e3 * t / frames, "ms/frame") for n, t in rows]


def against_lbfgs(head: HeadModel, cameras: int, frames: int) -> Row:
    """Seconds to the minimum of one energy, ours and the peer's."""
    rig = camera_ring(cameras)
    observations = observe(head, rig, sample_truth(head, frames), 1.0, outliers=0.02)
    options = FitOptions(double=True, tolerance=1e-7)
    job = JointFit(head, rig, observations, options, np.arange(frames))
    start, planes, priors = job.first_state()
    # A start inside the bounds, which the peer's change of variables needs.
    start.motion.expression[:, job.model.free] = 0.05
    began = time.process_time()
    ours = minimize(job.model, planes, priors, start, options, True, (options.robust_scale,))
    our_seconds = time.process_time() - began
    reference = ReferenceEnergy(
        head, start.motion.rotation, start.cameras, planes.xy.permute(0, 2, 3, 1),
        planes.precision, priors, options.robust_scale, options.correlation,
    )  # fmt: skip
    loss = LossSettings(options.robust_scale, options.correlation, False, options.chunk)
    system = linearize(job.model, planes, priors, start, loss, True)
    peer_seconds, reached = lbfgs(reference, system, start, job.model.free, ours.energy)
    print(
        f"energy: fit {ours.energy:.3f} after {ours.iterations} iterations, {our_seconds:.2f} s; "
        f"autograd L-BFGS {reached:.3f} after {peer_seconds:.1f} s"
    )
    return Row(
        f"fit, {cameras} cameras, {frames} frames, to within 1e-3 of the minimum",
        frames / our_seconds, "frames/s",
        "autograd L-BFGS on the same energy", frames / peer_seconds,
    )  # fmt: skip


def lbfgs(reference, system, start, free, goal: float) -> tuple[float, float]:
    """Seconds until autograd with L-BFGS is within CLOSE of `goal`, and the energy it reached."""
    count, frames = len(free), len(start.motion)
    motion = start.motion
    turn = torch.zeros(frames, 3, dtype=torch.float64)
    first = torch.cat(
        [
            motion.expression[:, free].sqrt().asin(),
            turn,
            motion.translation,
            motion.neck,
            motion.eyes,
        ],
        1,
    )
    curvature = system.diagonal.diagonal(dim1=1, dim2=2).clone()
    curvature[:, :count] *= torch.sin(2 * first[:, :count]).square()
    unit = torch.cat([curvature.reshape(-1), system.border.diagonal()]).rsqrt()
    x = (torch.cat([first.reshape(-1), start.identity]) / unit).requires_grad_(True)
    cameras = torch.zeros(0, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        [x], max_iter=20, history_size=20, line_search_fn="strong_wolfe", tolerance_change=0.0
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        z = x * unit
        rows = z[: first.numel()].reshape(first.shape)
        rows = torch.cat([rows[:, :count].sin().square(), rows[:, count:]], 1)
        energy = reference(z[first.numel() :], rows, cameras)
        energy.backward()
        return energy

    began, energy, used = time.process_time(), float("inf"), 0
    while energy > goal * (1 + CLOSE) and used < 200:
        energy, used = float(optimizer.step(closure).detach()), used + 1
    return time.process_time() - began, energy


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--frames", type=int, nargs="+", default=[120], help="of each take")
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 3, 8, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--peer-frames", type=int, default=4, help="0: without the peer")
    arguments = parser.parse_args()
    head, options = load_head(), FitOptions()
    known = replace(options, identity=np.zeros(head.identity_count))
    rows: list[Row] = []

    def add(*more: Row) -> None:
        for row in more:
            peer = f"   ({row.peer}: {row.peer_value:.2f})" if row.peer_value is not None else ""
            print(f"{row.name:62s} {row.value:8.1f} {row.unit}{peer}", flush=True)
            rows.append(row)

    for threads in arguments.threads:
        torch.set_num_threads(threads)
        throughput(head, 1, 4, options, "warm-up")
        suffix = "" if threads == 1 else f", {threads} threads"
        for cameras in arguments.cameras:
            add(*stages(head, cameras))
            for frames in arguments.frames:
                what = f"{cameras} cameras, {frames} frames{suffix}"
                add(throughput(head, cameras, frames, options, f"identity unknown, {what}"))
                add(throughput(head, cameras, frames, known, f"identity known, {what}"))
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                add(Row(f"peak memory after {what}", peak, "MB"))
    if arguments.peer_frames:
        torch.set_num_threads(1)
        add(against_lbfgs(head, 3, arguments.peer_frames))
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
