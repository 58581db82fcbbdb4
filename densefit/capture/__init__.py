"""What the cameras saw: takes, pictures by presentation time, and one timeline for all cameras."""

from densefit.capture.frames import Frame, Moment, check_range, open_frames, parse_moment
from densefit.capture.source import Source, open_source
from densefit.capture.take import Take, load_take
from densefit.capture.timeline import MasterTimeline, master_timeline
from densefit.capture.writer import VideoWriter

__all__ = [
    "Frame",
    "MasterTimeline",
    "Moment",
    "Source",
    "Take",
    "VideoWriter",
    "check_range",
    "load_take",
    "master_timeline",
    "open_frames",
    "open_source",
    "parse_moment",
]
