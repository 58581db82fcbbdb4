"""An independent reader of GLB files that plays them by the rules of the specification.

Morph targets, then skinning, then the joints' world transforms; nothing of densefit is used, so
that agreement
with the fit means that other programs will show the fit.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

DTYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class GltfPlayer:
    """`vertices(t)` are the positions of the one skinned mesh at time t, in the file's world."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON" and size % 4 == 0
        self.json = json.loads(data[20 : 20 + size])
        binary_size, kind = struct.unpack_from("<I4s", data, 20 + size)
        assert kind == b"BIN\0" and binary_size >= self.json["buffers"][0]["byteLength"]
        self._binary = data[28 + size : 28 + size + binary_size]
        self.parents = {
            child: parent
            for parent, node in enumerate(self.json["nodes"])
            for child in node.get("children", [])
        }

    def array(self, accessor: int) -> np.ndarray:
        item = self.json["accessors"][accessor]
        view = self.json["bufferViews"][item["bufferView"]]
        width = WIDTHS[item["type"]]
        flat = np.frombuffer(
            self._binary, DTYPES[item["componentType"]], item["count"] * width, view["byteOffset"]
        )
        return flat.reshape(item["count"], width) if width > 1 else flat

    def node(self, name: str) -> int:
        return next(i for i, node in enumerate(self.json["nodes"]) if node.get("name") == name)

    def sample(self, node: int, path: str, time: float) -> np.ndarray | None:
        animation = self.json["animations"][0]
        for channel in animation["channels"]:
            if channel["target"] == {"node": node, "path": path}:
                sampler = animation["samplers"][channel["sampler"]]
                times = self.array(sampler["input"])
                values = self.array(sampler["output"]).reshape(len(times), -1).astype(float)
                return self._interpolate(times, values, path, time)
        return None

    @staticmethod
    def _interpolate(times: np.ndarray, values: np.ndarray, path: str, time: float) -> np.ndarray:
        after = int(np.clip(np.searchsorted(times, time), 0, len(times) - 1))
        before = max(after - 1, 0)
        if after == before or time >= times[after]:
            return values[after]
        share = np.clip((time - times[before]) / (times[after] - times[before]), 0, 1)
        mixed = values[before] * (1 - share) + values[after] * share
        return mixed / np.linalg.norm(mixed) if path == "rotation" else mixed

    def world_matrix(self, node: int, time: float) -> np.ndarray:
        item = self.json["nodes"][node]
        matrix = np.eye(4)
        rotation = self.sample(node, "rotation", time)
        matrix[:3, :3] = _matrix(
            item.get("rotation", [0, 0, 0, 1]) if rotation is None else rotation
        ) * item.get("scale", [1, 1, 1])
        translation = self.sample(node, "translation", time)
        matrix[:3, 3] = item.get("translation", [0, 0, 0]) if translation is None else translation
        parent = self.parents.get(node)
        return matrix if parent is None else self.world_matrix(parent, time) @ matrix

    def vertices(self, time: float) -> np.ndarray:
        person = self.node("person")
        item = self.json["nodes"][person]
        primitive = self.json["meshes"][item["mesh"]]["primitives"][0]
        positions = self.array(primitive["attributes"]["POSITION"]).astype(float)
        weights = self.sample(person, "weights", time)
        assert weights is not None
        for weight, target in zip(weights, primitive["targets"], strict=True):
            positions = positions + weight * self.array(target["POSITION"])
        skin = self.json["skins"][item["skin"]]
        inverse_bind = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).swapaxes(1, 2)
        joints = np.stack(
            [self.world_matrix(j, time) @ inverse_bind[i] for i, j in enumerate(skin["joints"])]
        )
        index = self.array(primitive["attributes"]["JOINTS_0"])
        share = self.array(primitive["attributes"]["WEIGHTS_0"]).astype(float)
        blended = np.einsum("vj,vjab->vab", share, joints[index])
        return np.einsum("vab,vb->va", blended[:, :3, :3], positions) + blended[:, :3, 3]


def _matrix(quaternion: np.ndarray) -> np.ndarray:
    x, y, z, w = np.asarray(quaternion, float)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
