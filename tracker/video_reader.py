"""Read video files and streams with PyAV: frame after frame, each with its time, turned as the file says."""

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray

log = logging.getLogger(__name__)

RgbImage = NDArray[np.uint8]  # (H, W, 3)

DEFAULT_FPS = 30.0  # of image folders, which carry no clock, and of sources that do not state a rate
STALL_SECONDS = 10.0  # a stream that sends nothing for this long is given up
_PROMISE_KEPT = 0.98  # a header counts by duration and mean rate, which is a little off


class Promise(NamedTuple):
    """Hold what a header says of a video: its frames and how long it is, seconds; 0 where it names none."""

    frames: int
    length_s: float

    def broken(self, frames: int, seconds: float) -> bool:
        """Return whether a source ended earlier: many formats play to there as if that were the end.

        seconds: from its first frame to its last. Frames may be fewer, if they last that long: where the header counts
        none they are an estimate at a constant rate; AVI counts those that a camera dropped, and MP4 those before the
        place from which on it is to be shown.
        """
        if frames >= self.frames * _PROMISE_KEPT - 1:
            return False
        between = seconds / max(frames - 1, 1)  # the last frame is shown for a while, too
        return not self.length_s or seconds + 2 * between < self.length_s * _PROMISE_KEPT


class Item(NamedTuple):
    """Hold a frame of a source; the image comes from a function, so that one which is skipped costs no conversion."""

    seconds: float  # since the first frame
    load: Callable[[], RgbImage]
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel of the image over its height, as a player shows it


@dataclass(frozen=True, slots=True)
class Reader:
    """Hold an opened source."""

    name: str
    fps: float | None
    frame_count: int | None
    live: bool
    items: Iterator[Item]
    close: Callable[[], None]
    promise: Promise | None = None  # of a file


def open_video(source: str, is_url: bool = False) -> Reader:
    """Open a video file, or a stream by its URL. Raises OSError or ValueError with one line that names it."""
    try:
        container = av.open(
            source if is_url else str(Path(source).absolute()),  # "12:30.mp4" alone would be a protocol
            mode="r",
            metadata_errors="replace",  # a title in an unknown encoding is no reason to refuse the video
            timeout=STALL_SECONDS if is_url else None,
            # Over UDP, RTSP loses packets and often fails behind a router.
            options={"rtsp_flags": "prefer_tcp"} if source.lower().startswith("rtsp") else None,
        )
    except av.FFmpegError as error:
        raise _plain_error(source, error) from error
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or Disposition.attached_pic in stream.disposition:  # a cover
        container.close()
        raise ValueError(f"{source} has no video stream")
    live = is_url and container.duration is None
    if not live:
        stream.thread_type = "AUTO"  # decoding ahead of a live stream would delay it
    fps = float(stream.average_rate or stream.guessed_rate or 0) or None
    length_s = _length_s(container, stream)
    count = stream.frames or round(length_s * (fps or 0)) or None
    promise = None if live else Promise(count or 0, length_s)
    items = _items(source, container, stream, promise)
    return Reader(source, fps, None if live else count, live, items, container.close, promise)


def _length_s(container: InputContainer, stream: av.VideoStream) -> float:
    """Return how long a video is by its header, seconds; 0 where that does not say it."""
    # Of an AVI that was cut off, FFmpeg tells how long the rest is.
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _plain_error(source: str, error: av.FFmpegError) -> OSError | ValueError:
    """Return the plain one-line form of a PyAV error."""
    if isinstance(error, av.ExitError | TimeoutError):
        return TimeoutError(f"{source} stalled: nothing came for {STALL_SECONDS:g} s")
    reason = error.strerror or str(error)
    return (
        OSError(f"cannot read {source}: {reason}")
        if isinstance(error, OSError)
        else ValueError(f"cannot read {source} as video: {reason}")
    )


def _items(source: str, container: InputContainer, stream: av.VideoStream, promise: Promise | None) -> Iterator[Item]:
    """Yield the frames. promise: None for a live stream."""
    clock = _Clock(container, stream, live=promise is None)
    aspect = Fraction(stream.sample_aspect_ratio or 1)  # as they are stored
    for image in _decoded(source, container, stream, promise, clock):
        sideways = aspect != 1 and round(image.rotation / 90) % 2
        yield Item(clock.read(image), partial(_picture, image), 1 / aspect if sideways else aspect)
    if promise is None:
        log.warning("%s ended", source)


class _Clock:
    """Tell the time of one frame after the other, in seconds since the first."""

    def __init__(self, container: InputContainer, stream: av.VideoStream, live: bool) -> None:
        self.seconds = 0.0  # of the last frame
        self._step = 1 / float(stream.average_rate or DEFAULT_FPS)
        self._live = live
        # AVI has the packets' places, no times: FFmpeg makes them up, wrong ones of frames that are not shown as they
        # come. Whatever the order they are stored in, the first place is that of the frame shown first, and so on.
        self._by_place = container.format.name == "avi" and stream.codec_context.name in ("h264", "hevc")
        self._places: deque[float] = deque()  # of packets whose frames were not read, seconds
        self._now = 0.0  # by the source's clock
        self._begin: float | None = None

    def note(self, packet: "av.Packet[av.VideoStream]") -> None:
        """Take in a packet that is decoded next."""
        if self._by_place and packet.dts is not None and packet.time_base is not None:
            self._places.append(float(packet.dts * packet.time_base))

    def forget(self) -> None:
        """Give up the frame of a packet that was taken in last: it cannot be decoded."""
        if self._places:
            self._places.pop()

    def read(self, image: av.VideoFrame) -> float:
        """Return the time of the next frame."""
        if self._live:  # the clock of a live stream can jump; the time of arrival does not
            self._now = time.monotonic()
        elif self._places:
            self._now = self._places.popleft()
        elif image.time is None or self._by_place:
            self._now += self._step
        else:
            self._now = image.time
        self._begin = self._now if self._begin is None else self._begin
        self.seconds = self._now - self._begin
        return self.seconds


def _decoded(
    source: str, container: InputContainer, stream: av.VideoStream, promise: Promise | None, clock: _Clock
) -> Iterator[av.VideoFrame]:
    """Yield frames, each of which `clock` is to read."""
    skipped = count = 0
    try:
        for packet in container.demux(stream):
            clock.note(packet)
            try:
                images = packet.decode()
            except av.FFmpegError:
                clock.forget()
                skipped += 1
                continue
            count += len(images)
            yield from images
    except av.FFmpegError as error:
        held = _held(stream)
        count += len(held)
        yield from held
        # FFmpeg calls it an input/output error when a server hangs up that never said how much it would send.
        whole = promise is None or (promise.frames > 0 and not promise.broken(count, clock.seconds))
        if not (whole and error.errno == errno.EIO):
            raise _plain_error(source, error) from error
    finally:
        if skipped:
            log.warning("%s: %d packets that could not be decoded were skipped", source, skipped)


def _held(stream: av.VideoStream) -> list[av.VideoFrame]:
    """Return the frames that the decoder still holds."""
    try:
        images = list(stream.decode(None))
    except av.FFmpegError:
        return []
    for image in images:  # without a packet it does not know what their stamps count
        image.time_base = stream.time_base
    return images


def _picture(image: av.VideoFrame) -> RgbImage:
    rgb = np.asarray(image.to_ndarray(format="rgb24"), np.uint8)
    try:
        beside: Any = image.side_data
        matrix = np.frombuffer(beside["DISPLAYMATRIX"], np.int32) if "DISPLAYMATRIX" in beside else None
    except ValueError:  # the frame has something beside it that PyAV does not know
        return np.ascontiguousarray(np.rot90(rgb, round(image.rotation / 90)))
    return np.ascontiguousarray(rgb if matrix is None else _turned(rgb, matrix))


def _turned(rgb: RgbImage, matrix: NDArray[np.int32]) -> RgbImage:
    """Return a picture as its display matrix (9,) says: pixel (x, y) is shown at (a x + c y, b x + d y).

    Right angles and mirrors are obeyed, others as the nearest of them. Source: ISO/IEC 14496-12, 6.2.2.
    """
    a, b, _, c, d, *_ = matrix.tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        rgb = rgb.swapaxes(0, 1)
        a, d = c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
