"""`python -m densefit.train`: training where only torch and numpy are installed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from densefit.module_main import DEVICES, exit_code, integer, number
from densefit.train.loop import TrainOptions
from densefit.train.run import TASKS, RunOptions, train


def parse(arguments: list[str] | None = None) -> RunOptions:
    """Command line -> options."""
    parser = argparse.ArgumentParser("python -m densefit.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights")
    parser.add_argument("--task", choices=TASKS, default="landmarks")
    parser.add_argument("--minutes", type=number(0.01), default=TrainOptions.minutes)
    parser.add_argument(
        "--backgrounds", type=Path, help="folder of pictures without faces, or one packed"
    )
    parser.add_argument("--batch", type=integer(8), default=TrainOptions.batch)
    parser.add_argument("--learning-rate", type=number(1e-6), default=TrainOptions.learning_rate)
    parser.add_argument("--seed", type=integer(0), default=0)
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where training runs")
    parser.add_argument("--threads", type=integer(1, 1024))
    parser.add_argument("--start", type=Path, help="weights to begin with")
    parser.add_argument("--restart", action="store_true", help="ignore an existing checkpoint")
    parsed = parser.parse_args(arguments)
    return RunOptions(
        data=parsed.data,
        out=parsed.out,
        task=parsed.task,
        backgrounds=parsed.backgrounds,
        device=parsed.device,
        threads=parsed.threads,
        resume=not parsed.restart,
        start=parsed.start,
        train=TrainOptions(
            minutes=parsed.minutes,
            batch=parsed.batch,
            learning_rate=parsed.learning_rate,
            seed=parsed.seed,
        ),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run and print progress on stderr."""

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    options = parse(arguments)
    return exit_code(lambda: train(options, report))


if __name__ == "__main__":
    sys.exit(main())
