"""One renderer for all tests: building it takes seconds."""

from __future__ import annotations

import pytest
import torch

from densefit.head.model import HeadModel, load_head
from densefit.synth.render import Renderer


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return load_head()


@pytest.fixture(scope="session")
def renderer(head: HeadModel) -> Renderer:
    torch.set_num_threads(1)
    return Renderer(head)
