"""The training loop that both networks share: time-limited, resumable, with an average of weights.

A task (see `landmark_task`, `detector_task`) says what a batch is, what the loss is and how to
score; the loop does the rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from densefit.errors import Terminated
from densefit.precision import fastest_dtype
from densefit.train.checkpoint import Average, load_checkpoint, save_checkpoint
from densefit.train.random import Draws

Answer = Callable[[Tensor], tuple[Tensor, ...]]


class Task(Protocol):
    """What the loop needs from a task."""

    network: nn.Module

    def loss(self, step: int, answer: Answer) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a fresh batch, to be differentiated, and figures () for the log.

        answer: the network's outputs (float32) to pictures (B, 3, S, S). Figures stay where they
        were computed until they are shown: a GPU would be waited for at every step.
        """

    def score(self, network: nn.Module) -> dict[str, float]:
        """Figures on held-out data, for the averaged weights in eval mode."""

    def look_for_data(self) -> None:
        """Called now and then; new renders may have appeared."""

    def export(self, network: nn.Module, path: Path, seen: int) -> None:
        """Write weights that can be shipped."""


@dataclass(frozen=True)
class TrainOptions:
    """How long and how fast."""

    minutes: float = 40.0
    """training time, over all resumed parts, without scoring and saving"""
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: int = 150
    """steps over which the learning rate rises"""
    checkpoint_minutes: float = 3.0
    """time between checkpoints (and scores)"""
    clip: float = 4.0
    """largest norm of the gradient"""
    seed: int = 0


class Trainer:
    """Runs one task until its time is over."""

    def __init__(
        self,
        task: Task,
        draws: Draws,
        out: Path,
        name: str,
        options: TrainOptions,
        report: Callable[[str], None],
    ) -> None:
        self.task, self.draws, self.options, self.report = task, draws, options, report
        self.device = draws.device
        network = task.network.to(self.device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.checkpoint = out / f"{name}.checkpoint.safetensors"
        self.weights = out / f"{name}.safetensors"
        decay: list[nn.Parameter] = []
        no_decay: list[nn.Parameter] = []
        for parameter in self.network.parameters():
            (decay if parameter.ndim > 1 else no_decay).append(parameter)
        groups = [
            {"params": decay, "weight_decay": options.weight_decay},
            {"params": no_decay, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, fused=True)
        self.average = Average(self.network)
        self.step, self.seen, self.seconds = 0, 0, 0.0
        self.dtype = fastest_dtype(self.device)

    def run(self) -> dict[str, float]:
        """Train (from the checkpoint if there is one), export the weights, return the scores.

        When it is interrupted, what was trained since the last checkpoint is kept in one.
        """
        if self.checkpoint.exists():
            self._resume()
        self.report(f"training on {self.device} in {str(self.dtype).removeprefix('torch.')}")
        try:
            self._train()
            return self.save()
        except (KeyboardInterrupt, Terminated):
            self._save_checkpoint()
            self.report(f"interrupted at step {self.step}, kept in {self.checkpoint}")
            raise

    def _train(self) -> None:
        limit = self.options.minutes * 60
        saved = shown = self.seconds
        while self.seconds < limit:
            started = time.perf_counter()
            figures = self.train_step(self.seconds / limit)
            self.seconds += time.perf_counter() - started
            if self.seconds - shown > 20:
                shown = self.seconds
                self._show(figures, limit)
            if self.seconds - saved > self.options.checkpoint_minutes * 60:
                saved = self.seconds
                self.save()
                self.task.look_for_data()

    def train_step(self, progress: float) -> dict[str, Tensor]:
        """One step on a fresh batch; progress: 0 to 1, which the learning rate follows."""
        options = self.options
        rate = options.learning_rate * min(1.0, (self.step + 1) / options.warm_up)
        rate *= 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))
        for group in self.optimizer.param_groups:
            group["lr"] = rate + 1e-6
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss, figures = self.task.loss(self.step, self._answer)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), options.clip)
        self.optimizer.step()
        self.step += 1
        self.seen += options.batch
        self.average.update(self.network, self.step)
        return figures

    def _answer(self, image: Tensor) -> tuple[Tensor, ...]:
        """The network's outputs in float32, computed in the faster arithmetic.

        Only the network runs in it: crops, labels and losses need every digit.
        """
        image = image.contiguous(memory_format=torch.channels_last)
        enabled = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=enabled):
            outputs = self.network(image)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.float() for output in outputs)

    def _show(self, figures: dict[str, Tensor], limit: float) -> None:
        left = max(0.0, limit - self.seconds) / 60
        values = "  ".join(f"{k} {float(v):.4g}" for k, v in figures.items())
        speed = self.seen / max(self.seconds, 1e-9)
        self.report(
            f"step {self.step}  images {self.seen}  {values}  {speed:.0f} images/s"
            f"  {self.seconds / 60:.1f} min, {left:.1f} min left"
        )

    def save(self) -> dict[str, float]:
        """Checkpoint, score the averaged weights on held-out data, export them."""
        self._save_checkpoint()
        training_state = {k: v.clone() for k, v in self.network.state_dict().items()}
        try:
            self.network.load_state_dict(self.average.state)
            self.network.eval()
            with torch.no_grad():
                scores = self.task.score(self.network)
            self.task.export(self.network, self.weights, self.seen)
        finally:
            self.network.load_state_dict(training_state)
        values = "  ".join(f"{k} {v:.4g}" for k, v in scores.items())
        self.report(f"held out at step {self.step}: {values}")
        return scores

    def _save_checkpoint(self) -> None:
        counters = {"step": self.step, "seen": self.seen, "seconds": self.seconds}
        save_checkpoint(
            self.checkpoint, self.network, self.average, self.optimizer, self.draws, counters
        )

    def _resume(self) -> None:
        counters = load_checkpoint(
            self.checkpoint, self.network, self.average, self.optimizer, self.draws,
            self.options.seed,
        )  # fmt: skip
        self.step, self.seen = counters["step"], counters["seen"]
        self.seconds = counters["seconds"]
        self.report(f"going on from {self.checkpoint} at step {self.step}")
        if counters["reseeded"]:
            self.report(
                f"it was made on another kind of device than {self.device.type}; from here on"
                " other crops are drawn than there"
            )
