"""MediaPipe Face Mesh as a peer, run in a Python environment of its own (it needs another numpy).

python benchmarks/... --mediapipe PYTHON      # of an environment with mediapipe==0.10.21
python benchmarks/... --make-mediapipe DIR    # make that environment with pip
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MEDIAPIPE = "mediapipe==0.10.21"

# Runs in MediaPipe's environment. Each job is an .npy file of frames (N, H, W, 3); `follow` says
# whether they are a video. Answers are (N, faces, 478, 3) px in an .npy, NaN where no face is.
_PROGRAM = """
import json, sys, time, numpy as np, mediapipe as mp
jobs = json.load(open(sys.argv[1]))
seconds = []
for job in jobs:
    frames = np.load(job["frames"])
    mesh = mp.solutions.face_mesh.FaceMesh(
        static_image_mode=not job["follow"], refine_landmarks=True, max_num_faces=job["faces"],
        min_detection_confidence=job["confidence"])
    for frame in frames[:job["warm_up"]]:
        mesh.process(frame)
    height, width = frames.shape[1:3]
    start = time.perf_counter()
    results = [mesh.process(frame).multi_face_landmarks for frame in frames]
    seconds.append(time.perf_counter() - start)
    out = np.full((len(frames), job["faces"], 478, 3), np.nan)
    for i, faces in enumerate(results):
        for k, face in enumerate(faces or []):
            points = [(p.x * width - 0.5, p.y * height - 0.5, p.z * width) for p in face.landmark]
            out[i, k] = points
    np.save(job["out"], out)
print(json.dumps(seconds))
"""

_EDGES_PROGRAM = """
import json
from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION
print(json.dumps(sorted(FACEMESH_TESSELATION)))
"""

_FILM_PROGRAM = """
import sys, cv2, mediapipe as mp
mesh = mp.solutions.face_mesh.FaceMesh(refine_landmarks=True)
film = cv2.VideoCapture(sys.argv[1])
found = 0
while True:
    read, frame = film.read()
    if not read:
        break
    found += mesh.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).multi_face_landmarks is not None
print(found)
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """--mediapipe and --make-mediapipe."""
    parser.add_argument("--mediapipe", help="Python of an environment with MediaPipe")
    parser.add_argument("--make-mediapipe", type=Path, metavar="DIR")


def peer_python(options: argparse.Namespace) -> str | None:
    """The Python that has MediaPipe, made now if asked for."""
    if options.make_mediapipe is None:
        return options.mediapipe
    python = options.make_mediapipe / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(options.make_mediapipe)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", MEDIAPIPE], check=True)
    return str(python)


def run_mediapipe(
    python: str,
    jobs: list[np.ndarray],
    follow: bool,
    faces: int = 1,
    confidence: float = 0.5,
    warm_up: int = 0,
    depth: bool = False,
) -> tuple[list[np.ndarray], list[float]]:
    """Face Mesh on stacks of frames (N, H, W, 3) uint8 RGB.

    follow: the frames of a job are a video; faces: most faces a frame; confidence: of its detector;
    warm_up: frames processed once before the clock starts.
    Returns for each job (N, faces, 478, 2) px with pixel centres at integers, NaN where no face
    was found, and the seconds it took; with `depth` a third coordinate, in about the same scale,
    away from the camera. MediaPipe chooses its threads itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        plan = []
        for i, frames in enumerate(jobs):
            np.save(Path(folder) / f"{i}.npy", frames)
            plan.append(
                {"frames": f"{folder}/{i}.npy", "out": f"{folder}/out{i}.npy", "follow": follow,
                 "faces": faces, "confidence": confidence, "warm_up": warm_up}
            )  # fmt: skip
        (Path(folder) / "jobs.json").write_text(json.dumps(plan))
        done = subprocess.run(
            [python, "-c", _PROGRAM, f"{folder}/jobs.json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        answers = [np.load(job["out"])[..., : 3 if depth else 2] for job in plan]
    return answers, json.loads(done.stdout.strip().splitlines()[-1])


def mesh_triangles(python: str) -> np.ndarray:
    """Triangles (F, 3) of Face Mesh's 468 points: every three that its edges join."""
    done = subprocess.run(
        [python, "-c", _EDGES_PROGRAM], capture_output=True, text=True, check=True
    )
    near: dict[int, set[int]] = {}
    for a, b in json.loads(done.stdout.strip().splitlines()[-1]):
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    found = {tuple(sorted((a, b, c))) for a in near for b in near[a] for c in near[a] & near[b]}
    return np.array(sorted(found))


def film_command(python: str, video: Path) -> list[str]:
    """What runs Face Mesh over a whole film, decoded by OpenCV, in a process of its own."""
    return [python, "-c", _FILM_PROGRAM, str(video)]
