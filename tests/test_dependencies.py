"""Who may import whom, and what is never written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "cv2", "open3d", "av", "scipy", "matplotlib", "trimesh"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def imports_on_loading(tree: ast.Module) -> Iterator[str]:
    """Imports at module level, less those for the type checker."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)


@pytest.mark.parametrize("path", modules("calibration"), ids=lambda p: p.name)
def test_calibration_knows_nothing_of_densefit(path: Path) -> None:
    foreign = set(imports(ast.parse(path.read_text()))) & ({"densefit"} | (HEAVY - {"cv2"}))
    assert not foreign


@pytest.mark.parametrize("path", modules("densefit/cli"), ids=lambda p: p.name)
def test_command_modules_are_light_to_load(path: Path) -> None:
    heavy = set(imports_on_loading(ast.parse(path.read_text()))) & (HEAVY | {"numpy"})
    assert not heavy


def test_no_pickle() -> None:
    for package in ("densefit", "calibration"):
        for path in modules(package):
            tree = ast.parse(path.read_text())
            assert not set(imports(tree)) & {"pickle", "cloudpickle", "joblib", "dill"}, path
            for node in ast.walk(tree):
                if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
                    wanted = node.arg == "weights_only"
                    assert isinstance(node.value, ast.Constant), path
                    assert node.value.value is wanted, f"{path}: {node.arg}"
