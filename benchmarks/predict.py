"""Speed of `densefit predict`'s networks beside MediaPipe Face Mesh, in one run on one machine.

    python benchmarks/predict.py [VIDEO] [--threads 2] [--frames 300]
                                 [--precision auto|float32|bfloat16|int8] [--json FILE]
                                 [--end-to-end 6]
                                 [--mediapipe PYTHON | --make-mediapipe DIR]

Both follow one face through the same decoded frames, held in memory; decoding is timed by itself.
Cutting crops is part of it. `fast` runs one network on each frame, `high` the close-up too.
`--end-to-end N` times whole processes, from start to end, on the video shown N times, forth and
back: `densefit predict` and MediaPipe behind OpenCV's decoder, in turn, medians of three.
MediaPipe needs another numpy than we do: see mediapipe_peer.py. Without it only our own figures are
printed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from mediapipe_peer import MEDIAPIPE, add_options, film_command, peer_python, run_mediapipe


def decode(video: Path, count: int) -> tuple[np.ndarray, float]:
    """The first frames (N, H, W, 3) uint8 and the seconds it took to decode them."""
    from densefit.capture import open_frames, open_source

    source = open_source("camera", video)
    start = time.perf_counter()
    frames = [f.image for f in open_frames(source, end=str(count))]
    return np.stack(frames), time.perf_counter() - start


def time_densefit(
    frames: np.ndarray, cameras: int, quality: str, precision: str
) -> tuple[float, int]:
    """Seconds and valid frames for `cameras` cameras that all see these frames, in lockstep."""
    from densefit.head import load_head
    from densefit.landmarks.follow import Trail
    from densefit.landmarks.predictor import block_frames
    from densefit.landmarks.tracker import load_tracker
    from densefit.landmarks.weights import CLOSEUP_WEIGHTS

    near = CLOSEUP_WEIGHTS if quality == "high" else None
    tracker = load_tracker(load_head(), closeup_weights=near, precision=precision)
    first = tracker.find([frames[0]])[0]
    if first is None:
        raise SystemExit("no face in the first frame")
    size = block_frames(cameras)
    names = [str(camera) for camera in range(cameras)]
    trails, found = {name: Trail(first.place, picture=frames[0]) for name in names}, 0
    tracker.follow({name: [frames[0]] * size for name in names}, trails)
    start = time.perf_counter()
    for begin in range(0, len(frames), size):
        block = list(frames[begin : begin + size])
        seen, trails = tracker.follow(dict.fromkeys(names, block), trails)
        found += sum(face is not None for some in seen.values() for face in some)
    return time.perf_counter() - start, found


def repeated(frames: np.ndarray, times: int, path: Path) -> None:
    """A film that shows the frames forth and back again, `times` times in all."""
    from densefit.capture import VideoWriter

    with VideoWriter(path, 25, frames.shape[2], frames.shape[1]) as writer:
        for turn in range(times):
            for frame in frames[:: -1 if turn % 2 else 1]:
                writer.write(frame)


def end_to_end(frames: np.ndarray, times: int, python: str | None) -> dict[str, list[float]]:
    """Frames a second of whole processes, three runs of each."""
    speeds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder, "film.mp4")
        repeated(frames, times, film)
        commands = {
            f"densefit predict --quality {quality}": [
                *(sys.executable, "-m", "densefit", "predict", str(film), "--overwrite", "-q"),
                *("-o", f"{folder}/out", "--quality", quality),
            ]
            for quality in ("fast", "high")
        }
        if python is not None:
            commands["MediaPipe Face Mesh"] = film_command(python, film)
        for _ in range(3):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                speed = times * len(frames) / (time.perf_counter() - start)
                speeds.setdefault(name, []).append(speed)
    return speeds


def main() -> None:
    """Print a table; with --json write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    sample = Path(__file__).parent.parent / "sample_rigs/phone/phone.mp4"
    parser.add_argument("video", type=Path, nargs="?", default=sample)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16", "int8"), default="auto"
    )
    parser.add_argument("--end-to-end", type=int, default=0, metavar="N")
    parser.add_argument("--json", type=Path)
    add_options(parser)
    options = parser.parse_args()

    import torch

    from densefit.memory import keep_freed_memory
    from densefit.precision import dtype_name, inference_dtype

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    frames, seconds = decode(options.video, options.frames)
    count, (height, width) = len(frames), frames.shape[1:3]
    precision = dtype_name(inference_dtype(options.precision, torch.device("cpu")))
    print(
        f"{options.video.name}: {count} frames {width}x{height}, {options.threads} threads, "
        f"densefit in {precision}"
    )
    print(f"decode (PyAV)                        {count / seconds:7.1f} frames/s")
    python = peer_python(options)
    peer = None
    if python is not None:
        answers, taken = run_mediapipe(python, [frames], follow=True, warm_up=10)
        found = int((~np.isnan(answers[0][:, 0, 0, 0])).sum())
        peer = count / taken[0]
        print(f"MediaPipe Face Mesh, 478 points      {peer:7.1f} frames/s  ({found} with a face)")
    table = [
        {"name": "decode", "value": count / seconds, "unit": "frames/s", "peer": None,
         "peer_value": None}
    ]  # fmt: skip
    for quality, cameras in itertools.product(("fast", "high"), (1, 4)):
        taken_here, found = time_densefit(frames, cameras, quality, precision)
        speed = cameras * count / taken_here
        print(
            f"densefit {quality}, 703 points, {cameras} camera{'s' if cameras > 1 else ' '} "
            f"{speed:7.1f} camera-frames/s  ({found} with a face)"
        )
        table.append(
            {"name": f"predict {quality}, {cameras} cameras", "value": speed,
             "unit": "camera-frames/s", "peer": MEDIAPIPE, "peer_value": peer}
        )  # fmt: skip
    if options.end_to_end:
        ended = end_to_end(frames, options.end_to_end, python)
        theirs = None
        if python is not None:
            theirs = float(np.median(ended.pop("MediaPipe Face Mesh")))
            print(f"MediaPipe behind OpenCV's decoder, whole process: {theirs:.1f} frames/s")
        for name, speeds in ended.items():
            print(f"{name}, whole process: {np.median(speeds):.1f} frames/s")
            table.append(
                {"name": f"{name}, whole process", "value": float(np.median(speeds)),
                 "unit": "frames/s", "peer": MEDIAPIPE, "peer_value": theirs}
            )  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
