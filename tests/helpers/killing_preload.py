"""What the children of `killing` have loaded when they begin."""

import av  # noqa: F401
import cv2  # noqa: F401
import square  # noqa: F401
import torch  # noqa: F401

import densefit.capture
import densefit.fit_rig
import densefit.landmarks.predictor  # noqa: F401
