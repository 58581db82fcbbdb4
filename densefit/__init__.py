"""densefit: dense face landmarks and a joint fit turn ordinary video into an animated 3D head."""

__version__ = "0.1.0"
