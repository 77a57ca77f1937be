"""Frames from anything: `open_frames(source)` reads a video file, webcam, stream URL, image folder or glob pattern.

Every frame is RGB uint8 of shape (H, W, 3), C-contiguous. One frame is in memory at a time, however long the source.
"""

import logging
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.file_names import in_home, natural_order
from tracker.video_reader import DEFAULT_FPS, Item, Reader, RgbImage, open_video

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset([".bmp", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"])


def as_rgb_uint8(image: NDArray[Any]) -> RgbImage:
    """Return an image as RGB uint8 of shape (H, W, 3): the same array, untouched, where it is one already.

    Grey, (H, W) or (H, W, 1), is repeated over the channels; of RGBA the alpha is dropped; uint16 is divided by 257,
    which takes 65535 to 255, and rounded. Raises ValueError for any other shape or dtype: the range of a float image
    is not known.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"frame must be a numpy array of shape (H, W, 3) and dtype uint8, got {type(image).__name__}")
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
        return image
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    dtype = image.dtype.newbyteorder("=")  # as TIFF files have the bytes is no matter
    if channels not in (1, 3, 4) or dtype not in (np.uint8, np.uint16) or not image.size:
        raise ValueError(
            f"frame must be RGB of shape (H, W, 3) and dtype uint8, got shape {image.shape} and dtype {image.dtype}; "
            "grey, RGBA and uint16 are converted, nothing else is"
        )
    colour = image.reshape(*image.shape[:2], channels)[..., :3]
    if dtype == np.uint16:
        colour = (colour.astype(np.uint32) + 128) // 257
    return np.ascontiguousarray(np.broadcast_to(colour, (*image.shape[:2], 3)), dtype=np.uint8)


class Frames:
    """Iterate over the frames of a source once, like an open file; a context manager, which closes the source.

    `fps` is None where the source does not state it. `frame_count` is the number of frames to expect, None where
    unknown: it is the container's own figure and may be off. `live` says that frames come as they happen.

    `index` (0-based in the source), `time` (seconds since the first frame of the source) and `pixel_aspect` are those
    of the frame given last. The aspect is the width of a pixel over its height: frames have the pixels that are
    stored, and a player shows those of a video whose pixels are not square wider or narrower.

    Iterating raises ValueError for a frame that cannot be decoded or a `start` beyond the end, TimeoutError for a
    stream that stalls and OSError for one that breaks off. A file that ends before its header says is warned of.
    """

    def __init__(self, reader: Reader, start: int, end: int | None) -> None:
        """Give the frames `start` to `end` - 1 of a reader."""
        self.fps = reader.fps
        self.live = reader.live
        self.index = -1
        self.time = 0.0
        self.pixel_aspect = Fraction(1)
        count = reader.frame_count
        if count is not None:
            count = max(0, count - start)
        if end is not None:
            count = end - start if count is None else min(count, end - start)
        self.frame_count = count
        self._name = reader.name
        self._closed = False
        self._close = reader.close
        self._images = self._read(reader, start, end)

    def _read(self, reader: Reader, start: int, end: int | None) -> Iterator[RgbImage]:
        seen, seconds = 0, 0.0
        for seconds, load, aspect in islice(reader.items, end):
            seen += 1
            if seen > start:
                image = load()
                self.index, self.time, self.pixel_aspect = seen - 1, seconds, aspect
                yield image
        if seen == 0:
            raise ValueError(f"{reader.name} has no frame that can be decoded")
        if seen <= start:
            raise ValueError(f"start {start} is beyond the end of {reader.name}, which has {seen} frames")
        promise = reader.promise
        if promise is not None and (end is None or seen < end) and promise.broken(seen, seconds):
            message = "%s ends after %d frames, where its header promises %d"
            log.warning(message, reader.name, seen, promise.frames)

    def __iter__(self) -> Iterator[RgbImage]:
        """Return the iterator itself: a source is read once."""
        return self

    def __next__(self) -> RgbImage:
        """Return the next frame and set `index` and `time` to it. Raises ValueError once the source is closed."""
        if self._closed:
            raise ValueError(f"{self._name} is closed; read its frames before that")
        return next(self._images)

    def close(self) -> None:
        """Close the file, stream or webcam. May be called twice."""
        self._closed = True
        self._close()

    def __enter__(self) -> "Frames":
        """Return the frames."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the source."""
        self.close()


def open_frames(source: str | Path | int, start: int = 0, end: int | None = None) -> Frames:
    """Open a video file, a webcam (its index, as int or digits), a stream URL, an image folder or a glob pattern.

    Gives the frames `start` to `end` - 1 (0-based; None means to the end). The images of a folder or pattern are
    sorted naturally, img2 before img10, and count as 30 frames a second. A rotation stored in a video or photo is
    applied. Packets that cannot be decoded are skipped with a logged warning.

    Raises FileNotFoundError, OSError or ValueError with one line that names the source.
    """
    if start < 0:
        raise ValueError(f"start must be 0 or more, got {start}")
    if end is not None and end <= start:
        raise ValueError(f"end must be greater than start, got start {start} and end {end}")
    return Frames(_open_reader(source), start, end)


def _open_reader(source: str | Path | int) -> Reader:
    text = str(source)
    if re.fullmatch(r"-?\d+", text) and (
        isinstance(source, int) or len(text) == 1 or not Path(text).exists()  # a folder may be called 2026
    ):
        return _open_webcam(int(text))
    if "://" in text:
        return open_video(text, is_url=True)
    path = in_home(text)
    if path.is_dir():
        shown = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        images = [p for p in shown if p.is_file()]
        if not images:
            raise ValueError(f"no images in folder {text}; give the folder that holds them")
        return _open_images(text, images)
    if path.is_char_device():
        raise ValueError(f"{text} is a device; give a webcam by its index, such as 0")
    if path.exists():
        return _open_images(text, [path]) if path.suffix.lower() in IMAGE_SUFFIXES else open_video(str(path))
    if any(mark in text for mark in "*?["):
        matches = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        images = [p for p in matches if p.is_file()]
        if not images:
            raise FileNotFoundError(f"no file matches the pattern {text}")
        return _open_images(text, images)
    raise FileNotFoundError(f"no such file or folder: {text}")


# ---- image folders ----


def _open_images(name: str, paths: list[Path]) -> Reader:
    ordered = natural_order(paths)
    items = (Item(index / DEFAULT_FPS, partial(read_image, path)) for index, path in enumerate(ordered))
    return Reader(name, DEFAULT_FPS, len(ordered), live=False, items=items, close=lambda: None)


def read_image(path: Path) -> RgbImage:
    """Read an image file, turned as it says. Raises ValueError naming one that is damaged, no image, or of floats."""
    # Decoded from memory: unlike imread, this opens any path on Windows and gives no half of a truncated JPEG.
    # ANYCOLOR with ANYDEPTH keeps grey and 16 bits, drops alpha and, unlike UNCHANGED, applies the EXIF rotation.
    data = np.fromfile(path, dtype=np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f"cannot read image {path}: it is damaged or not an image")
    try:
        return cv2.cvtColor(as_rgb_uint8(image), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
    except ValueError as error:
        raise ValueError(f"cannot use image {path}: {error}") from None


# ---- webcams ----


def _open_webcam(index: int) -> Reader:
    if index < 0:  # OpenCV crashes on some of these
        raise ValueError(f"the index of a webcam must be 0 or more, got {index}")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it reports each backend it tries
    try:
        capture = cv2.VideoCapture(index)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise OSError(f"cannot open webcam {index}: is it plugged in, and not in use by another program?")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a longer queue would hand out old frames to a slow tracker
    fps = capture.get(cv2.CAP_PROP_FPS)
    name = f"webcam {index}"
    return Reader(name, fps if fps > 0 else None, None, True, _webcam_items(name, capture), capture.release)


def _webcam_items(name: str, capture: cv2.VideoCapture) -> Iterator[Item]:
    begin: float | None = None
    while True:
        ok, image = capture.read()
        if not ok:
            break
        now = time.monotonic()
        begin = now if begin is None else begin
        yield Item(now - begin, partial(_webcam_image, image))
    log.warning("%s gives no more frames", name)


def _webcam_image(image: NDArray[Any]) -> RgbImage:
    return cv2.cvtColor(as_rgb_uint8(image), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
