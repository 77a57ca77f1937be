"""Write frames to a video file."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import cv2
import numpy as np
from av.container import OutputContainer

from tracker.interface import Frame

# The encoders to try, best first. AVI players rarely take H.264.
_ENCODERS = {
    ".mp4": ("libx264", "mpeg4"),
    ".mkv": ("libx264", "mpeg4"),
    ".mov": ("libx264", "mpeg4"),
    ".avi": ("mpeg4",),
    ".webm": ("libvpx-vp9", "libvpx"),
}
_ENCODER_OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "20"},
    "mpeg4": {"qscale": "3", "flags": "+qscale"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "4M"},
}
_LONGEST_GAP_SECONDS = 1.0


class VideoWriter:
    """Write frames of RGB uint8 to a video file that plays wherever writing stops; a context manager.

    The file is H.264, or MPEG-4 part 2 where that encoder is missing; VP9 for .webm. Its frames have `size_hw`,
    (height, width), made even by repeating the last row or column. A frame of another size is scaled to fit, on black.
    """

    def __init__(self, path: Path, fps: float, size_hw: tuple[int, int]) -> None:
        """Create the file. Raises ValueError for an unknown extension, OSError where it cannot be written."""
        self.path = path
        self._size_hw = size_hw
        self._rate = Fraction(fps).limit_denominator(1001)  # 29.97 is 30000/1001
        self._last_slot = -1
        self._shift: int | None = None
        encoder = _encoder_for(path)
        try:
            self._container: OutputContainer = av.open(str(path), mode="w")
            options = _ENCODER_OPTIONS[encoder]
            self._stream = cast(av.VideoStream, self._container.add_stream(encoder, rate=self._rate, options=options))
            self._stream.height, self._stream.width = (side + side % 2 for side in size_hw)
            self._stream.pix_fmt = "yuv420p"
            self._container.start_encoding()  # opens the file: a bad path must not wait for the first frame
        except av.FFmpegError as error:
            raise _plain_error(path, error) from error

    def write(self, frame: Frame, seconds: float) -> None:
        """Append a frame that was taken at `seconds`, so that the video plays at the speed of the source.

        A gap of over a second, such as a pause, is closed. Raises OSError, for example when the disk is full.
        """
        image = av.VideoFrame.from_ndarray(_even(_fitted(frame, self._size_hw)), format="rgb24")
        image.pts = self._slot(seconds)
        try:
            self._container.mux(self._stream.encode(image))
        except av.FFmpegError as error:
            raise _plain_error(self.path, error) from error

    def _slot(self, seconds: float) -> int:
        """Return the place of a frame on the grid of 1 / fps: that of its time, but later than the frame before."""
        slot = round(seconds * self._rate)
        if self._shift is None or abs(slot + self._shift - self._last_slot) > _LONGEST_GAP_SECONDS * self._rate:
            self._shift = self._last_slot + 1 - slot
        self._last_slot = max(self._last_slot + 1, slot + self._shift)
        return self._last_slot

    def close(self) -> None:
        """Write what is still in the encoder and finish the file. Raises OSError where that fails."""
        try:
            try:
                self._container.mux(self._stream.encode(None))
            finally:
                self._container.close()
        except av.FFmpegError as error:
            raise _plain_error(self.path, error) from error

    def __enter__(self) -> "VideoWriter":
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, whatever happened."""
        self.close()


def _encoder_for(path: Path) -> str:
    encoders = _ENCODERS.get(path.suffix.lower())
    if encoders is None:
        raise ValueError(f"cannot write a video as {path}: the name must end in one of {', '.join(_ENCODERS)}")
    for name in encoders:
        try:
            return av.Codec(name, "w").name
        except av.codec.codec.UnknownCodecError:
            continue
    raise ValueError(f"cannot write {path}: PyAV was built without {' and '.join(encoders)}")


def _plain_error(path: Path, error: av.FFmpegError) -> OSError:
    """Return the plain one-line form of a PyAV error."""
    return OSError(f"cannot write {path}: {error.strerror or error}")


def _fitted(frame: Frame, size_hw: tuple[int, int]) -> Frame:
    """Return the frame scaled to fit a size (height, width), centred on black; the same frame where it has the size."""
    if frame.shape[:2] == size_hw:
        return frame
    height, width = size_hw
    scale = min(height / frame.shape[0], width / frame.shape[1])
    inner_h, inner_w = max(1, round(frame.shape[0] * scale)), max(1, round(frame.shape[1] * scale))
    top, left = (height - inner_h) // 2, (width - inner_w) // 2
    image = np.zeros((height, width, 3), dtype=np.uint8)
    resized = cv2.resize(frame, (inner_w, inner_h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    image[top : top + inner_h, left : left + inner_w] = resized
    return image


def _even(frame: Frame) -> Frame:
    """Return the frame with an even height and width, which yuv420p needs: the last row or column is repeated."""
    odd_h, odd_w = frame.shape[0] % 2, frame.shape[1] % 2
    return np.pad(frame, ((0, odd_h), (0, odd_w), (0, 0)), mode="edge") if odd_h or odd_w else frame
