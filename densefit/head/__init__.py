"""The head model: a compiled asset, its numpy interface and its differentiable torch twin."""

from densefit.head.model import EXPRESSION_NAMES, JOINT_NAMES, HeadModel, load_head

__all__ = ["EXPRESSION_NAMES", "JOINT_NAMES", "HeadModel", "load_head"]
