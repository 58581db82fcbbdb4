"""The Khronos glTF validator finds nothing wrong; skipped without node and npm's gltf-validator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from densefit.export.glb import write_glb
from densefit.export.scene import ExportOptions, load_scene
from densefit.head.model import HeadModel
from tests.export.rig_fixture import write_toy_rig

SCRIPT = """
const validator = require('gltf-validator');
const bytes = new Uint8Array(require('fs').readFileSync(process.argv[1]));
validator.validateBytes(bytes).then(report => console.log(JSON.stringify(report)));
"""


def validate(path: Path) -> dict:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    # `make setup` puts the validator into the virtual environment.
    places = [os.environ.get("NODE_PATH", ""), str(Path(sys.prefix) / "node" / "node_modules")]
    environment = {**os.environ, "NODE_PATH": os.pathsep.join(filter(None, places))}
    done = subprocess.run(
        [node, "-e", SCRIPT, str(path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if "Cannot find module" in done.stderr:
        pytest.skip("npm's gltf-validator is not installed")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "options", [ExportOptions(), ExportOptions(fps=60, unit="cm", up="z", subdivide=1)]
)
def test_validator_has_nothing_to_say(out: Path, head, tmp_path: Path, options: ExportOptions):
    write_toy_rig(out)
    report = validate(write_glb(load_scene(out, head, options), tmp_path)[0])
    issues = report["issues"]
    assert report["mimeType"] == "model/gltf-binary"
    assert report["info"]["animationCount"] == 1 and report["info"]["hasMorphTargets"]
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def test_validator_would_complain(out: Path, head: HeadModel, tmp_path: Path):
    path = write_glb(load_scene(out, head, ExportOptions()), tmp_path)[0]
    path.write_bytes(path.read_bytes().replace(b'"path":"weights"', b'"path":"wieghts"'))
    issues = validate(path)["issues"]
    assert issues["numErrors"] + issues["numWarnings"] > 0
