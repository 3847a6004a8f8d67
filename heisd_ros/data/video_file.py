"""Writing of mp4 files as LeRobot's recorder encodes them. Needs PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from heisd_ros.data.packages import package
from heisd_ros.errors import DemonstrationError
from heisd_ros.files.atomic import sync


@dataclass(frozen=True)
class Codec:
    """How frames are encoded.

    Attributes:
        name: Name of the compression in `meta/info.json`.
        encoder: Name of FFmpeg's encoder.
        quality: Constant rate factor; lower is better and larger.
        preset: The encoder's preset, or None for its own.
    """

    name: str
    encoder: str
    quality: int
    preset: int | None

    def options(self) -> dict[str, str]:
        """Returns the encoder's options: every second frame can be decoded by itself."""
        options = {"g": "2", "crf": str(self.quality)}
        return options if self.preset is None else options | {"preset": str(self.preset)}

    def info(self, height: int, width: int, rate: float) -> dict[str, Any]:
        """Describes a video as LeRobot does under `info` of a feature."""
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": self.name,
            "video.pix_fmt": "yuv420p",
            "video.fps": int(rate) if rate == int(rate) else rate,
            "video.channels": 3,
            "has_audio": False,
            "video.g": 2,
            "video.crf": self.quality,
            "video.preset": self.preset,
            "video.fast_decode": 0,
            "video.video_backend": "pyav",
            "video.extra_options": {},
            "is_depth_map": False,
        }


CODECS = {
    "av1": Codec("av1", "libsvtav1", 30, 12),
    "h264": Codec("h264", "libx264", 23, None),
}
"""LeRobot records with the first, so that a data set of it may be merged with one of LeRobot's."""


def check_codec(codec: Codec) -> None:
    """Checks that a codec's encoder is there.

    Raises:
        DemonstrationError: It is not.
        MissingPackageError: PyAV is not installed.
    """
    if codec.encoder not in package("av").codecs_available:
        raise DemonstrationError(
            f"this PyAV has no encoder {codec.encoder!r}; accepted: the one from PyPI, or pictures "
            "in another format"
        )


@contextmanager
def _same_priorities() -> Iterator[None]:
    """Keeps the scheduling of every thread; a new one is scheduled as the calling one.

    SVT-AV1, opened by root, makes the calling thread and its own ones real-time threads of the
    highest priority, which leave their cores to nobody else.
    """

    def threads() -> dict[int, tuple[int, os.sched_param]]:
        found = {}
        for name in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):
                found[int(name)] = os.sched_getscheduler(int(name)), os.sched_getparam(int(name))
        return found

    before, usual = threads(), (os.sched_getscheduler(0), os.sched_getparam(0))
    try:
        yield
    finally:
        for thread, now in threads().items():
            if now != before.get(thread, usual):
                with suppress(ProcessLookupError):
                    os.sched_setscheduler(thread, *before.get(thread, usual))


class VideoFile:
    """A video that is being written; frames are evenly spaced.

    Args:
        path: Its place; what is there is replaced.
        codec: How it is encoded.
        rate: Frames a second.

    Attributes:
        frames: Number of frames written.
    """

    def __init__(self, path: Path, codec: Codec, rate: Fraction) -> None:
        self._av = package("av")
        os.environ.setdefault("SVT_LOG", "1")  # else it writes its settings to stderr
        self.path, self._codec, self._rate, self.frames = path, codec, rate, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file of ours: FFmpeg's own may be full without an error.
        self._sink = _Sink(path)
        self._container = self._av.open(self._sink, "w", format="mp4")
        self._stream: Any = None

    def add(self, pictures: np.ndarray) -> None:
        """Appends frames (T, H, W, 3) uint8 RGB.

        Raises:
            OSError: They cannot be written.
            ValueError: A side has an odd number of pixels.
        """
        height, width = pictures.shape[1:3]
        if height % 2 or width % 2:
            raise ValueError(
                f"pictures of {width} x {height} pixels do not fit a video; accepted: even numbers"
            )
        if self._stream is None:
            self._stream = self._container.add_stream(
                self._codec.encoder, rate=self._rate, options=self._codec.options()
            )
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            with _same_priorities():
                self._stream.codec_context.open()
        with self._named():
            for picture in pictures:
                frame = self._av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(picture), format="rgb24"
                )
                frame.pts, frame.time_base = self.frames, 1 / self._rate
                self._container.mux(self._stream.encode(frame))
                self.frames += 1

    def close(self) -> None:
        """Completes the file and checks that it has every frame.

        Raises:
            OSError: It cannot be written, or has fewer frames.
        """
        with self._named():
            if self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()
            self._sink.file.close()
            sync(self.path)
            sync(self.path.parent)
            with self._av.open(str(self.path)) as container:
                there = sum(packet.size > 0 for packet in container.demux(video=0))
        if there != self.frames:
            raise OSError(f"{self.path} has {there} of {self.frames} frames")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Makes an OSError that names the file of FFmpeg's errors."""
        try:
            yield
        except self._av.error.FFmpegError as error:
            raise OSError(f"{self.path}: {error}") from error

    def abandon(self) -> None:
        """Closes the file as it is."""
        self._sink.abandoned = True
        self._container.close()
        self._sink.file.close()


class _Sink:
    """The file that FFmpeg writes to, until it is abandoned.

    FFmpeg completes a file whenever it closes one. After an error that fails again, and PyAV would
    print it.
    """

    def __init__(self, path: Path) -> None:
        self.file, self.abandoned = path.open("wb"), False

    def write(self, content: bytes) -> int:
        return len(content) if self.abandoned else self.file.write(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0 if self.abandoned else self.file.seek(offset, whence)

    def tell(self) -> int:
        return 0 if self.abandoned else self.file.tell()
