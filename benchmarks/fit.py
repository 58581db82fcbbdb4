"""Speed of the joint fit.

    python benchmarks/fit.py [--json FILE] [--cameras 1 4 8 16] [--frames 100] [--threads 1]
        [--phone 200] [--long 0] [--peer-frames 100]

The default takes about two minutes; `--frames 100 1000 10000 --threads 1 2` is everything.
Landmarks are those of the shipped head with 1 px noise and 2 % outliers, of a face whose lips do
not enter the teeth (where they do, pushing them out takes some 40 iterations); takes of more than
240 frames go back and forth over 240. Frames a second count all of `fit` (reading, first poses,
solve, deviations): with identity unknown (takes over 240 frames through keyframes and windows) and
with identity known; wall time with more than one thread, process time with one. An iteration is one
linearization and one step. `--long` fits so many frames with identity known, from landmarks that
are made as they are asked for, in a process of its own, and gives its peak memory.
The peer minimises the very same energy from the same start with autograd and L-BFGS (strong Wolfe,
history 20, batched float64); both are timed until within 1e-3 of the lower energy reached.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from densefit.fit import FitOptions, Observations, fit
from densefit.fit.intersection import contact_points, find_contacts
from densefit.fit.inverse import deviations
from densefit.fit.joint_fit import JointFit
from densefit.fit.landmark_model import landmark_model
from densefit.fit.linearization import LossSettings, Planes, linearize
from densefit.fit.newton_step import solve_step
from densefit.fit.priors import Priors
from densefit.fit.solver import step_box
from densefit.fit.state import State
from densefit.head import HeadModel, load_head
from tests.fit.batched_energy import BatchedEnergy
from tests.fit.synthetic import Truth, camera_ring, observe, sample_truth

CLOSE = 1e-3
BASE = 240
"""Frames that longer takes go back and forth over."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None


@dataclass(frozen=True)
class BackAndForth:
    """A long take made of a short one; a `LandmarkSource`."""

    short: Observations
    count: int

    @property
    def time(self) -> np.ndarray:
        """(T,) s."""
        return np.arange(self.count) / 30.0

    @property
    def valid(self) -> np.ndarray:
        """(T, C) bool."""
        return np.ones((self.count, self.short.valid.shape[1]), bool)

    @property
    def seen(self) -> np.ndarray:
        """(T,) bool."""
        return np.ones(self.count, bool)

    @property
    def landmarks(self) -> int:
        """L."""
        return self.short.landmarks

    def take(self, frames: np.ndarray) -> Observations:
        """Some of the frames."""
        turn = max(1, 2 * len(self.short.time) - 2)
        there = np.asarray(frames) % turn
        rows, short = np.minimum(there, turn - there), self.short
        return Observations(short.xy[rows], short.sigma[rows], short.valid[rows], self.time[frames])


def clock() -> float:
    """Seconds: of the process on one thread, of the wall on more."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def possible_truth(head: HeadModel, frames: int) -> Truth:
    """Motion of the first random person whose lips stay before the teeth, as people's do."""
    model = landmark_model(head, torch.float64).contacts
    for seed in itertools.count():
        truth = sample_truth(head, BASE, seed)
        identity, expression = torch.tensor(truth.identity), torch.tensor(truth.expression)
        if not len(find_contacts(model, contact_points(model, identity, expression)).frame):
            return sample_truth(head, frames, seed)
    raise AssertionError


def take_of(head: HeadModel, cameras: int, frames: int) -> tuple[Truth, BackAndForth]:
    """A take of any length and the truth of what it repeats."""
    truth = possible_truth(head, min(frames, BASE))
    short = observe(head, camera_ring(cameras), truth, 1.0, outliers=0.02)
    return truth, BackAndForth(short, frames)


def throughput(head: HeadModel, cameras: int, frames: int, known: bool, name: str) -> Row:
    """Frames a second of the whole fit."""
    truth, observations = take_of(head, cameras, frames)
    options = FitOptions(identity=truth.identity if known else None)
    start = clock()
    fit(head, camera_ring(cameras), observations, options)
    return Row(name, frames / (clock() - start), "frames/s")


def phone(head: HeadModel, frames: int) -> Row:
    """Frames a second of the whole fit of one video: focal length and identity unknown."""
    _, observations = take_of(head, 1, frames)
    unknown = [replace(camera, K=None, T_camera_world=None) for camera in camera_ring(1)]
    start = clock()
    fit(head, unknown, observations, FitOptions())
    name = f"identity and focal length unknown, one camera, {frames} frames"
    return Row(name, frames / (clock() - start), "frames/s")


def stages(head: HeadModel, cameras: int, frames: int = 200) -> list[Row]:
    """Milliseconds a frame of the parts of a fit, identity known and unknown."""
    truth, observations = take_of(head, cameras, frames)
    parts: list[tuple[str, float]] = []

    def measure(name: str, work, times: int = 3):
        spent = []
        for _ in range(times):
            begun = clock()
            out = work()
            spent.append(clock() - begun)
        parts.append((name, min(spent)))
        return out

    with torch.no_grad():
        every = np.arange(frames)
        rig = camera_ring(cameras)
        job = JointFit(head, rig, observations, FitOptions(identity=truth.identity), every)
        measure("reading", lambda: (setattr(job, "_kept", None), job.raw_planes(every)))
        start, planes, priors = measure("first poses", job.first_state, 1)
        unknown = JointFit(head, rig, observations, FitOptions(), every)
        begun = unknown.begin_bias(unknown.first_state()[0], planes)
        loss = LossSettings(4.0, job.options.correlation, True, job.options.chunk)
        box = step_box(job.model, start)
        for known in (True, False):
            name = "identity known" if known else "identity unknown"
            model, state = (job.model, start) if known else (unknown.model, begun)
            system = measure(
                f"linearization, {name}",
                lambda m=model, s=state, k=known: linearize(m, planes, priors, s, loss, not k),
            )
            measure(f"step, {name}", lambda s=system: solve_step(s, priors, box, 1e-3, None))
            measure(f"deviations, {name}", lambda s=system: deviations(s, priors))
            iteration = sum(t for n, t in parts if n in (f"linearization, {name}", f"step, {name}"))
            parts.append((f"iteration, {name}", iteration))
    return [Row(f"{n}, {cameras} cameras", 1e3 * t / frames, "ms/frame") for n, t in parts]


def long_take(cameras: int, frames: int, threads: int) -> tuple[float, float]:
    """Frames a second and peak memory (MB) of one long take."""
    torch.set_num_threads(threads)
    head = load_head()
    truth, observations = take_of(head, cameras, frames)
    start = clock()
    fit(head, camera_ring(cameras), observations, FitOptions(identity=truth.identity))
    seconds = clock() - start
    return frames / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(cameras: int, frames: int, threads: int) -> tuple[float, float]:
    """`long_take` in a fresh process, whose memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(long_take, (cameras, frames, threads))


def against_lbfgs(head: HeadModel, cameras: int, frames: int, limit: float) -> Row:
    """Seconds until within CLOSE of the lower energy, ours and the peer's; identity unknown."""
    _, observations = take_of(head, cameras, frames)
    options = FitOptions(contact_sd=float("inf"), sigma_scale=1.0)
    with torch.no_grad():
        job = JointFit(head, camera_ring(cameras), observations, options, np.arange(frames))
        start, planes, priors = job.first_state()
        # A start inside the bounds, which the peer's change of variables needs.
        start.motion.expression[:, job.model.free] = 0.05
        marks = [time.process_time()]
        ones = torch.ones(cameras, dtype=torch.float64)
        near = job.near(np.arange(frames), start, ones)
        assert near is not None
        start = replace(start, identity=torch.zeros_like(near.identity))
        ours = job.together(planes, priors, near, lambda: marks.append(time.process_time()))
        marks.append(time.process_time())
    energies = [energy for _, energy in ours.history]
    peer = lbfgs(head, job, start, planes, priors, min(energies), limit)
    lower = min(*energies, peer[-1][1])
    goal = lower * (1 + CLOSE)
    # The k-th accepted step is known at the beginning of the next iteration, or at the end.
    reached = next(k for k, energy in enumerate(energies) if energy <= goal)
    our_seconds = marks[min(reached + 2, len(marks) - 1)] - marks[0]  # with the start's
    peer_seconds = next((seconds for seconds, energy in peer if energy <= goal), None)
    print(
        f"energy: fit {energies[-1]:.2f} after {ours.iterations} iterations, within {CLOSE:g} of "
        f"the lower after {our_seconds:.2f} s; autograd L-BFGS {peer[-1][1]:.2f} after "
        f"{peer[-1][0]:.1f} s" + ("" if peer_seconds else ", and not yet that near")
    )
    return Row(
        f"fit, {cameras} cameras, {frames} frames, to within {CLOSE:g} of the minimum", our_seconds,
        "s", "autograd L-BFGS" if peer_seconds else "autograd L-BFGS, not there yet",
        peer_seconds or peer[-1][0],
    )  # fmt: skip


def lbfgs(
    head: HeadModel,
    job: JointFit,
    start: State,
    planes: Planes,
    priors: Priors,
    goal: float,
    limit: float,
) -> list[tuple[float, float]]:
    """(seconds, energy) after every twenty iterations of autograd with L-BFGS, until at the goal
    or out of time. Bounds by psi = sin^2(z); unknowns in units of the curvature at the start."""
    options, motion, free = job.options, start.motion, job.model.free
    energy_of = BatchedEnergy(
        head, motion.rotation, start.cameras, planes.xy.double().permute(0, 2, 3, 1),
        planes.precision.double(), priors, options.robust_scale, options.correlation,
    )  # fmt: skip
    energy_of.add_bias(job.model)
    loss = LossSettings(options.robust_scale, options.correlation, False, options.chunk)
    with torch.no_grad():
        system = linearize(job.model, planes, priors, start, loss, True)
    angle = motion.expression[:, free].sqrt().asin()
    turn = torch.zeros_like(motion.translation)
    first = torch.cat([angle, turn, motion.translation, motion.neck, motion.eyes], 1)
    curvature = system.diagonal.diagonal(dim1=1, dim2=2).clone()
    curvature[:, : len(free)] *= torch.sin(2 * angle).square()
    unit = torch.cat([curvature.reshape(-1), system.border.diagonal()]).rsqrt()
    x = (torch.cat([first.reshape(-1), start.identity]) / unit).requires_grad_(True)
    none = torch.zeros(0, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        [x], max_iter=20, history_size=20, line_search_fn="strong_wolfe", tolerance_change=0.0
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        z = x * unit
        rows = z[: first.numel()].reshape(first.shape)
        rows = torch.cat([rows[:, : len(free)].sin().square(), rows[:, len(free) :]], 1)
        energy = energy_of(z[first.numel() :], rows, none)
        energy.backward()
        return energy

    out: list[tuple[float, float]] = []
    began = time.process_time()
    while not out or (out[-1][1] > goal * (1 + 0.5 * CLOSE) and out[-1][0] < limit):
        optimizer.step(closure)
        spent = time.process_time() - began
        with torch.enable_grad():
            out.append((spent, float(closure().detach())))
    return out


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--frames", type=int, nargs="+", default=[100], help="of each take")
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--long", type=int, nargs="*", default=[], help="frames of takes by memory")
    parser.add_argument("--phone", type=int, default=200, help="frames of one video; 0: without")
    parser.add_argument("--peer-frames", type=int, default=100, help="0: without the peer")
    parser.add_argument("--peer-limit", type=float, default=40.0, help="seconds for the peer")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    chosen, head = arguments(), load_head()
    rows: list[Row] = []

    def add(*more: Row) -> None:
        for row in more:
            peer = f"   ({row.peer}: {row.peer_value:.2f})" if row.peer_value is not None else ""
            print(f"{row.name:64s} {row.value:8.2f} {row.unit}{peer}", flush=True)
            rows.append(row)

    for threads in chosen.threads:
        torch.set_num_threads(threads)
        throughput(head, 1, 4, True, "warm-up")
        suffix = "" if threads == 1 else f", {threads} threads"
        for cameras in chosen.cameras:
            if threads == chosen.threads[0]:
                add(*stages(head, cameras))
            for frames in chosen.frames:
                what = f"{cameras} cameras, {frames} frames{suffix}"
                add(throughput(head, cameras, frames, True, f"identity known, {what}"))
                add(throughput(head, cameras, frames, False, f"identity unknown, {what}"))
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                add(Row(f"peak memory after {what}", peak, "MB"))
        if chosen.phone:
            add(phone(head, chosen.phone))
    for frames in chosen.long:
        speed, peak = alone(4, frames, chosen.threads[0])
        add(Row(f"identity known, 4 cameras, {frames} frames, by itself", speed, "frames/s"))
        add(Row(f"peak memory, 4 cameras, {frames} frames, by itself", peak, "MB"))
    if chosen.peer_frames:
        torch.set_num_threads(1)
        add(against_lbfgs(head, 4, chosen.peer_frames, chosen.peer_limit))
    if chosen.json:
        chosen.json.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
