"""Training as one call: options in, weights out."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from densefit.files import ensure_out_dir
from densefit.landmarks.jobs import resolve_device
from densefit.memory import keep_freed_memory
from densefit.module_main import termination_raised
from densefit.train.geometry import opencv_there
from densefit.train.loop import Task, Trainer, TrainOptions
from densefit.train.random import Draws

TASKS = ("landmarks", "closeup", "detector")


@dataclass(frozen=True)
class RunOptions:
    """What the command line asks for."""

    data: Path
    """folder of shards of synthetic faces"""
    out: Path
    """folder for checkpoints and weights"""
    task: str = "landmarks"
    backgrounds: Path | None = None
    """folder of pictures without faces (png, jpg, hdr), or a file of `densefit.synth.pack`, used
    beside procedural backgrounds"""
    device: str = "auto"
    threads: int | None = None
    resume: bool = True
    start: Path | None = None
    """weights to begin with, where there is no checkpoint to go on from"""
    train: TrainOptions = field(default_factory=TrainOptions)


def train(options: RunOptions, report: Callable[[str], None]) -> dict[str, float]:
    """Train one network; returns its scores on held-out renders.

    Writes `<task>.safetensors` (weights to ship) and `<task>.checkpoint.safetensors` into
    options.out. With `resume`, an existing checkpoint is continued until options.train.minutes are
    over; else it is replaced. When it is interrupted or terminated, the checkpoint is written
    before that is raised. Raises InputError for data, weights or a device that cannot be used.
    """
    keep_freed_memory()
    device = resolve_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    ensure_out_dir(options.out)
    if device == "cpu" and not opencv_there():
        report("without OpenCV (pip install opencv-python) crops are cut ten times as slowly")
    torch.manual_seed(options.train.seed)
    draws = Draws(options.train.seed, device)
    name = {"landmarks": "landmarks_fast", "closeup": "landmarks_closeup"}.get(
        options.task, options.task
    )
    task = _make_task(options, draws, report)
    trainer = Trainer(task, draws, options.out, name, options.train, report)
    if not options.resume:
        trainer.checkpoint.unlink(missing_ok=True)
    with termination_raised():
        return trainer.run()


def command_line(options: RunOptions) -> str:
    """The command that repeats a training, for the metadata of its weights.

    Folders by their last name only: where they lay is nobody's business.
    """
    parts = ["densefit", "train", "--task", options.task, "--data", options.data.resolve().name]
    if options.backgrounds is not None:
        parts += ["--backgrounds", options.backgrounds.resolve().name]
    settings = options.train
    parts += ["--minutes", f"{settings.minutes:g}", "--batch", str(settings.batch)]
    if options.start is not None:
        parts += ["--start", options.start.name]
    parts += ["--learning-rate", f"{settings.learning_rate:g}", "--seed", str(settings.seed)]
    return shlex.join(parts)


def _make_task(options: RunOptions, draws: Draws, report: Callable[[str], None]) -> Task:
    from densefit.head import load_head

    head = load_head()
    command = command_line(options)
    task: LandmarkTask | DetectorTask
    if options.task in ("landmarks", "closeup"):
        from densefit.train.landmark_task import LandmarkTask, LandmarkTaskOptions

        landmark_options = LandmarkTaskOptions(batch=options.train.batch)
        if options.task == "closeup":
            landmark_options = LandmarkTaskOptions.for_closeup(options.train.batch)
        task = LandmarkTask(
            options.data, head, draws, landmark_options, options.backgrounds, command
        )
        report(f"labels outside the decoding basis: {task.basis_error_px:.3f} px of the crop")
    else:
        from densefit.train.detector_task import DetectorTask, DetectorTaskOptions

        detector_options = DetectorTaskOptions(batch=options.train.batch)
        task = DetectorTask(
            options.data, head, draws, detector_options, options.backgrounds, command
        )
    if options.start is not None:
        report(task.start_from(options.start))
    report(f"{len(task.store)} renders to train on, {task.store.held_out} held out")
    return task
