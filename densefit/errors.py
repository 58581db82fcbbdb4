"""The errors densefit raises on purpose. Each message says what is wrong, where, and what to do.

The command line maps `exit_code` to the process' exit code; anything else that escapes is our own
fault (1).
"""


class DensefitError(Exception):
    """Base of all deliberate errors; by itself one of ours, not the user's."""

    exit_code = 1


class UsageError(DensefitError):
    """An option is unknown, out of range or contradicts another."""

    exit_code = 2


class InputError(DensefitError):
    """A file is missing, damaged, inconsistent or not writable, or a package is missing."""

    exit_code = 3


class QualityError(DensefitError):
    """The result does not pass a quality gate that the user asked for."""

    exit_code = 4


class BatchError(DensefitError):
    """Some of many takes failed; each failure was told."""

    exit_code = 5


class Terminated(BaseException):
    """The process was asked to end (SIGTERM). Like KeyboardInterrupt, no error of anybody's."""
