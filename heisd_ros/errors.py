"""Every named error of the package, so that a caller can tell them apart without parsing text."""

from __future__ import annotations


class HeisdError(Exception):
    """Base class of every error that this package raises on purpose."""


class JointStateError(HeisdError):
    """A joint state does not fit the arm: a joint is missing, unknown, repeated or not finite."""


class UrdfError(HeisdError):
    """A robot description is missing, unreadable, or has no usable chain to the tip frame."""


class CheckpointError(HeisdError):
    """A checkpoint folder is missing, incomplete, damaged, or not what its config says."""


class DeviceMemoryError(HeisdError):
    """A device has not enough memory for the model, or for running it."""


class ReferenceDataError(HeisdError):
    """A folder of reference outputs is missing, damaged, or lacks what a comparison needs."""


class ProtocolError(HeisdError):
    """An evaluation protocol is unknown or malformed, or does not fit the model or the suite."""


class UnknownStatisticsError(HeisdError):
    """A checkpoint has no action statistics under the asked name, or several and none was asked."""


class AnswerError(HeisdError):
    """A model's answer stands for no actions: it is no answer of its family, or never ended."""


class UnknownInstructionError(HeisdError):
    """The model was not trained on this instruction."""


class ImageError(HeisdError):
    """A camera image is missing, empty, or not 8-bit RGB."""


class ProprioceptionError(HeisdError):
    """A proprioception vector is missing, not asked for, of the wrong size, or not finite."""


class SceneError(HeisdError):
    """A simulated scene was asked for a suite, task or state that it does not have."""


class DemonstrationError(HeisdError):
    """A file of demonstrations is missing, damaged, or not in LIBERO's layout."""


class BagError(HeisdError):
    """A recording is missing, no rosbag2, or lacks a topic or type; the message names the path."""


class DatabaseError(HeisdError):
    """A retrieval database is missing, damaged, empty, or made for another model or robot."""


class DrafterError(HeisdError):
    """A drafter is missing, damaged, or made for another model."""


class CalibrationError(HeisdError):
    """A calibration is missing, damaged, or older than what it calibrates."""


class MissingPackageError(HeisdError):
    """What is asked for needs a package which is not installed; the message names it."""


class ModeError(HeisdError):
    """A decoding mode is unknown, malformed, or needs something that was not given."""


class GrowthError(HeisdError):
    """A database may not grow now, or the journal of what was recorded cannot be used."""


class FleetError(HeisdError):
    """The fleet's server cannot be reached, or holds frames of another model."""


class EngineError(HeisdError):
    """The engine that was chosen cannot run the model here."""


class BenchmarkError(HeisdError):
    """What a benchmark was asked to run on is not there or is no such thing."""


class ReplayError(HeisdError):
    """A recording cannot be replayed: a topic, its type, its images or the instruction is wrong."""


class MessageError(HeisdError):
    """A message of the model protocol is damaged, or holds what is neither number nor text."""


class RemoteModelError(HeisdError):
    """A model's server is away, answers late or not as agreed, or serves another model."""


class ViewError(HeisdError):
    """A viewer does not take what it is to show."""
