"""Write frames to a video file."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace

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
_BT709 = 1  # ITU-T H.273: the number of its primaries, its transfer and its matrix alike
_TICKS = 120_000  # a second: whole numbers of them lie between frames at 24, 25, 30, 50, 60 and their 1000/1001
_MPEG4_MOST = 65_535  # ticks a second of MPEG-4 part 2
FILE_GAP_S = 600.0  # longest gap between two frames of a file: more is an error of its clock
_LEAST_STEP_SECONDS = 0.001  # of .mkv and .webm
_SNAP_SECONDS = 0.0011  # a time so near to its place at a constant rate was rounded by the source


class VideoWriter:
    """Write frames of RGB uint8 to a video file that plays wherever writing stops; a context manager.

    The file is H.264, or MPEG-4 part 2 where that encoder is missing; VP9 for .webm. Its frames have `size_hw`,
    (height, width), made even by repeating the last row or column. A frame of another size is scaled to fit, on black.
    A file that was given none shows one that is black.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        size_hw: tuple[int, int],
        longest_gap_s: float = 1.0,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        """Create the file. Longer gaps between two frames are closed: a live source goes on while a window pauses.

        pixel_aspect: width of a pixel over its height, as players are to show it; .webm does not hold it.
        Raises ValueError for an unknown extension, OSError where it cannot be written.
        """
        self.path = path
        self._size_hw = size_hw
        self._longest_gap_s = longest_gap_s
        encoder = encoder_for(path)
        self._rate = _rate_of(fps, _MPEG4_MOST if encoder == "mpeg4" else None)
        self._tagged = encoder != "mpeg4"  # a file that names its colours shows them in every player
        # AVI has no times: its frames follow one another at a constant rate.
        constant = path.suffix.lower() == ".avi"
        self._tick = 1 / self._rate if constant else Fraction(1, _TICKS if encoder != "mpeg4" else _TICKS // 2)
        self._least_step = self._tick if constant else Fraction(_LEAST_STEP_SECONDS).limit_denominator(1000)
        self._shown: Fraction | None = None  # when the last frame is shown, seconds
        self._shift = 0.0  # from the source's clock to the file's
        try:
            self._container: OutputContainer = av.open(str(path.absolute()), mode="w", options=_muxer_options(path))
            options = _ENCODER_OPTIONS[encoder]
            self._stream = cast(av.VideoStream, self._container.add_stream(encoder, rate=self._rate, options=options))
            self._stream.height, self._stream.width = (side + side % 2 for side in size_hw)
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = self._tick
            self._stream.codec_context.sample_aspect_ratio = pixel_aspect
            if self._tagged:
                coder = self._stream.codec_context
                coder.colorspace = coder.color_primaries = coder.color_trc = _BT709
                coder.color_range = ColorRange.MPEG
            self._container.start_encoding()  # opens the file: a bad path must not wait for the first frame
        except av.FFmpegError as error:
            raise _plain_error(path, error) from error

    def write(self, frame: Frame, seconds: float) -> None:
        """Append a frame that was taken at `seconds`, so that the video plays at the speed of the source.

        A gap that is too long, such as a pause, is closed. Raises OSError, for example when the disk is full.
        """
        image = av.VideoFrame.from_ndarray(_even(_fitted(frame, self._size_hw)), format="rgb24")
        if self._tagged:
            image = image.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        image.time_base = self._tick
        image.pts = round(self._place(seconds) / self._tick)
        image.duration = round(1 / self._rate / self._tick)
        try:
            self._container.mux(self._stream.encode(image))
        except av.FFmpegError as error:
            raise _plain_error(self.path, error) from error

    def _place(self, seconds: float) -> Fraction:
        """Return when a frame is shown: at its time, but later than the frame before."""
        if self._shown is None:
            self._shown, self._shift = Fraction(0), -seconds
            return self._shown
        at = seconds + self._shift
        if not -1.0 <= at - float(self._shown) <= self._longest_gap_s:
            at = float(self._shown + 1 / self._rate)
            self._shift = at - seconds
        slot = round(at * self._rate) / self._rate
        near = self._tick == 1 / self._rate or abs(float(slot) - at) <= _SNAP_SECONDS
        self._shown = max(
            self._shown + self._least_step, slot if near else Fraction(round(at / self._tick)) * self._tick
        )
        return self._shown

    def close(self) -> None:
        """Write what is still in the encoder and finish the file. Raises OSError where that fails."""
        if self._shown is None:  # FFmpeg crashes where it is to finish fragments that hold nothing
            self.write(np.zeros((*self._size_hw, 3), np.uint8), 0.0)
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


def encoder_for(path: Path) -> str:
    """Return what encodes a file of that name. Raises ValueError for an unknown extension, or where none is there."""
    encoders = _ENCODERS.get(path.suffix.lower())
    if encoders is None:
        raise ValueError(f"cannot write a video as {path}: the name must end in one of {', '.join(_ENCODERS)}")
    for name in encoders:
        try:
            return av.Codec(name, "w").name
        except av.codec.codec.UnknownCodecError:
            continue
    raise ValueError(f"cannot write {path}: PyAV was built without {' and '.join(encoders)}")


def _rate_of(fps: float, most: int | None) -> Fraction:
    """Return frames a second as a ratio, 29.97 as 30000/1001, its numerator at most `most`."""
    finest = 1001
    while most is not None and Fraction(fps).limit_denominator(finest).numerator > most:
        finest //= 2
    return Fraction(fps).limit_denominator(finest)


def _muxer_options(path: Path) -> dict[str, str]:
    """Return what makes a file readable as far as it was written, where the disk gets full or the process is killed.

    An .mp4 or .mov is written in fragments, and becomes an ordinary one when it is finished.
    """
    able = av.library_versions["libavformat"] >= (61, 7, 0)  # FFmpeg 7.1
    fragments = able and path.suffix.lower() in (".mp4", ".mov")
    return (
        {"movflags": "+hybrid_fragmented+frag_keyframe+negative_cts_offsets", "frag_duration": "1000000"}
        if fragments
        else {}
    )


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
