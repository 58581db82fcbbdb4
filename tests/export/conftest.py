"""One random take in a folder, with a small head in place of the shipped one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densefit.export.scene import ExportOptions, ExportScene
from densefit.fit_file import read_fit
from densefit.head.model import HeadModel
from tests.toy_fit import toy_head, write_toy_fit


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return toy_head()


@pytest.fixture
def out(tmp_path: Path, head: HeadModel) -> Path:
    write_toy_fit(tmp_path, head)
    return tmp_path


@pytest.fixture
def scene(out: Path, head: HeadModel) -> ExportScene:
    fit = read_fit(out, head)
    return ExportScene(fit, head, None, np.arange(fit.n_frames), ExportOptions())
