"""The one error that this package raises on purpose."""


class CalibrationError(ValueError):
    """A camera or a rig file is wrong. The message names file, camera, key and what to do."""
