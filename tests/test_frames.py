import logging
import socket
import struct
import threading
import time
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from tracker import video_reader
from tracker.frames import Frames, as_rgb_uint8, open_frames

RED, GREEN = (255, 0, 0), (0, 255, 0)


def marked_frame(index: int, size_hw: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """Return a green frame whose top left quarter is red, and a grey strip at the bottom tells the index, modulo 64."""
    image = np.zeros((*size_hw, 3), np.uint8)
    image[:] = GREEN
    image[: size_hw[0] // 2, : size_hw[1] // 2] = RED
    image[-8:] = 4 * index % 256
    return image


def write_video(
    path: Path, count: int, fps: int = 25, rotation: int | None = None, pixel_aspect: Fraction = Fraction(1)
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(marked_frame(index))))
        container.mux(stream.encode(None))
    return path


def told_index(frame: NDArray[np.uint8]) -> int:
    return round(float(frame[-4:].mean()) / 4)


def read_all(source: str | Path, start: int = 0, end: int | None = None) -> list[int]:
    with open_frames(source, start, end) as opened:
        return [told_index(frame) for frame in opened]


# ---- video files ----


def test_video_gives_rgb_frames_with_index_and_time(tmp_path: Path) -> None:
    with open_frames(write_video(tmp_path / "clip.mp4", 30)) as opened:
        assert (opened.fps, opened.frame_count, opened.live) == (25.0, 30, False)
        for index, frame in enumerate(opened):
            assert frame.shape == (48, 64, 3)
            assert frame.dtype == np.uint8
            assert frame.flags.c_contiguous
            assert told_index(frame) == index == opened.index
            assert opened.time == pytest.approx(index / 25, abs=1e-6)
            np.testing.assert_allclose(frame[10, 10], RED, atol=6)
            np.testing.assert_allclose(frame[10, 50], GREEN, atol=6)
        assert opened.index == 29


def test_video_without_a_frame_count_is_estimated(tmp_path: Path) -> None:
    with open_frames(write_video(tmp_path / "clip.mkv", 30)) as opened:
        assert opened.frame_count == 30


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_what_is_closed_gives_no_frames(tmp_path: Path, suffix: str) -> None:
    source = write_video(tmp_path / "clip.mp4", 30) if suffix == ".mp4" else write_images(tmp_path, ["1.png", "2.png"])
    with open_frames(source) as opened:
        next(opened)
    with pytest.raises(ValueError, match=rf"{source} is closed; read its frames before that"):
        next(opened)


def write_uneven(path: Path) -> list[float]:
    """Write 30 frames that come at no constant rate, fewer than the header leads to expect; return their times."""
    times_ms = [16 * index if index < 15 else 500 * (index - 14) for index in range(30)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=60, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time_ms in enumerate(times_ms):
            image = av.VideoFrame.from_ndarray(marked_frame(index))
            image.pts, image.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    return [time_ms / 1000 for time_ms in times_ms]


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_video_whose_rate_changes_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str) -> None:
    times = write_uneven(tmp_path / f"screen{suffix}")
    with caplog.at_level(logging.WARNING), open_frames(tmp_path / f"screen{suffix}") as opened:
        assert opened.frame_count is not None and opened.frame_count > 60
        assert [opened.time for _ in opened] == pytest.approx(times, abs=1e-6)
    assert not caplog.messages


def test_video_whose_rate_changes_may_be_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = tmp_path / "screen.mkv"
    write_uneven(video)
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 3 // 4])
    with caplog.at_level(logging.WARNING):
        assert 5 < len(read_all(video)) < 25
    assert "where its header promises" in caplog.text


def test_times_in_an_avi_of_h264_are_in_order(tmp_path: Path) -> None:
    with open_frames(write_video(tmp_path / "clip.avi", 30)) as opened:
        seen = [(told_index(frame), opened.time) for frame in opened]
    assert [index for index, _ in seen] == list(range(30))
    assert [time for _, time in seen] == pytest.approx([index / 25 for index in range(30)])


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_has_the_times_of_frames_that_a_camera_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str
) -> None:
    path = tmp_path / "clip.avi"
    taken = [index for index in range(60) if not 20 <= index < 30]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for index in taken:
            image = av.VideoFrame.from_ndarray(marked_frame(index))
            image.pts, image.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    with caplog.at_level(logging.WARNING), open_frames(path) as opened:
        assert [opened.time for _ in opened] == pytest.approx([index / 25 for index in taken])
    assert not caplog.messages
    chunks = path.read_bytes().split(b"00dc")
    path.write_bytes(b"00dc".join(chunks[:40]))
    with caplog.at_level(logging.WARNING):
        frames = len(read_all(path))
    assert 20 < frames < 40
    assert caplog.messages == [f"{path} ends after {frames} frames, where its header promises 60"]


def test_a_sound_may_be_longer_than_its_video(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "clip.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream("aac", rate=8000)
        sound.layout = "mono"
        for index in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(marked_frame(index))))
        container.mux(stream.encode(None))
        for _ in range(100):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.sample_rate = 8000
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    with caplog.at_level(logging.WARNING), open_frames(path) as opened:
        assert opened.frame_count == 30
        assert sum(1 for _ in opened) == 30
    assert not caplog.messages


def test_what_a_phone_cut_from_the_start_of_a_video_is_not_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        packets = [stream.encode(av.VideoFrame.from_ndarray(marked_frame(index))) for index in range(50)]
        for packet in [packet for some in [*packets, stream.encode(None)] for packet in some]:
            assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
            cut = round(20 / 25 / packet.time_base)  # what lies before 0 is there to be decoded, not to be shown
            packet.pts, packet.dts = packet.pts - cut, packet.dts - cut
            container.mux(packet)
    with caplog.at_level(logging.WARNING):
        assert read_all(tmp_path / "clip.mp4") == list(range(20, 50))
    assert not caplog.messages


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_start_and_end_are_exact(tmp_path: Path, suffix: str) -> None:
    video = write_video(tmp_path / f"clip{suffix}", 60)
    with open_frames(video, start=37, end=41) as opened:
        assert opened.frame_count == 4
        seen = [(told_index(frame), opened.index, round(opened.time, 2)) for frame in opened]
    assert seen == [(37, 37, 1.48), (38, 38, 1.52), (39, 39, 1.56), (40, 40, 1.6)]
    assert read_all(video, start=58, end=100) == [58, 59]


# What a viewer sees: the red quarter after the stored counterclockwise turn.
@pytest.mark.parametrize(
    ("rotation", "shape", "red_at"),
    [(0, (48, 64), (5, 5)), (90, (64, 48), (-5, 5)), (-90, (64, 48), (5, -5)), (180, (48, 64), (-5, -5))],
)
def test_stored_rotation_is_applied(
    tmp_path: Path, rotation: int, shape: tuple[int, int], red_at: tuple[int, int]
) -> None:
    frame = next(open_frames(write_video(tmp_path / "phone.mp4", 2, rotation=rotation)))
    assert frame.shape[:2] == shape
    assert frame.flags.c_contiguous
    np.testing.assert_allclose(frame[red_at], RED, atol=6)


@pytest.mark.parametrize(
    ("rotation", "aspect"), [(0, Fraction(4, 3)), (90, Fraction(3, 4)), (-90, Fraction(3, 4)), (180, Fraction(4, 3))]
)
def test_pixels_that_are_not_square_turn_with_the_frame(tmp_path: Path, rotation: int, aspect: Fraction) -> None:
    video = write_video(tmp_path / "camcorder.mp4", 2, rotation=rotation, pixel_aspect=Fraction(4, 3))
    with open_frames(video) as opened:
        next(opened)
        assert opened.pixel_aspect == aspect


# What a viewer sees of a red quarter at the upper left: the display matrix as an .mp4 holds it, (a, b, c, d).
@pytest.mark.parametrize(
    ("matrix", "shape", "red_at"),
    [
        ((-1, 0, 0, 1), (48, 64), (5, -5)),  # left and right changed
        ((1, 0, 0, -1), (48, 64), (-9, 5)),  # upside down, as no turn shows it; the strip tells the index above
        ((0, 1, 1, 0), (64, 48), (5, 5)),  # rows and columns changed
        ((0, -1, -1, 0), (64, 48), (-5, -5)),
    ],
)
def test_stored_mirror_is_applied(
    tmp_path: Path, matrix: tuple[int, int, int, int], shape: tuple[int, int], red_at: tuple[int, int]
) -> None:
    path = write_video(tmp_path / "mirrored.mp4", 2)
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (entry << 16 for entry in matrix)
    head, _, rest = path.read_bytes().rpartition(plain)  # the track's; that of the whole comes before
    path.write_bytes(head + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + rest)
    frame = next(open_frames(path))
    assert frame.shape[:2] == shape and frame.flags.c_contiguous
    np.testing.assert_allclose(frame[red_at], RED, atol=6)
    assert (np.abs(frame.astype(int) - RED).max(axis=2) < 30).mean() == pytest.approx(0.25, abs=0.03)


def test_a_name_may_look_like_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "clip.mp4", 5).rename(tmp_path / "2026-11-30T12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert read_all("2026-11-30T12:30.mp4") == list(range(5))


def test_a_folder_may_be_called_as_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0007").mkdir()
    cv2.imwrite(str(tmp_path / "0007" / "1.png"), marked_frame(3))
    monkeypatch.chdir(tmp_path)
    assert read_all("0007") == [3]


def test_start_beyond_the_end_says_how_long_the_video_is(tmp_path: Path) -> None:
    opened = open_frames(write_video(tmp_path / "clip.mp4", 12), start=12)
    with pytest.raises(ValueError, match=r"start 12 is beyond the end of .*clip\.mp4, which has 12 frames"):
        next(opened)


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 5), (5, 3)])
def test_wrong_range_is_refused(tmp_path: Path, start: int, end: int | None) -> None:
    with pytest.raises(ValueError, match="start"):
        open_frames(tmp_path, start, end)


def test_corrupt_packets_are_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = write_video(tmp_path / "clip.mp4", 60)
    data = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for position, size in packets[20:25]:
        data[position : position + size] = bytes(255 for _ in range(size))
    video.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        seen = read_all(video)
    assert 40 <= len(seen) < 60
    assert seen[0] == 0
    assert "packets that could not be decoded were skipped" in caplog.text


@pytest.mark.parametrize("name", ["text.mp4", "empty.mp4", "text.unknown"])
def test_undecodable_file_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("" if name.startswith("empty") else "no video at all\n" * 50)
    with pytest.raises(ValueError, match=f"cannot read .*{name} as video") as caught:
        open_frames(path)
    assert "\n" not in str(caught.value)


def test_video_of_which_no_packet_decodes_is_an_error(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", 5)
    data = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                data[packet.pos : packet.pos + packet.size] = bytes(255 for _ in range(packet.size))
    video.write_bytes(data)
    with pytest.raises(ValueError, match="has no frame that can be decoded"):
        next(open_frames(video))


def test_file_without_video_is_an_error(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    with pytest.raises(ValueError, match="has no video stream"):
        open_frames(tmp_path / "sound.wav")


def test_cover_of_a_sound_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        sound.layout = "mono"
        cover = container.add_stream("png", rate=25)
        cover.height, cover.width, cover.pix_fmt, cover.disposition = 48, 64, "rgb24", Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(marked_frame(0))))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    with pytest.raises(ValueError, match=r"song\.mp4 has no video stream"):
        open_frames(tmp_path / "song.mp4")


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*gone\.mp4"):
        open_frames(tmp_path / "gone.mp4")


@pytest.mark.slow
def test_memory_stays_flat_over_10000_frames(tmp_path: Path) -> None:
    video = write_video(tmp_path / "long.mp4", 10_000)

    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    with open_frames(video) as opened:
        for _ in range(500):
            next(opened)
        before = resident_mb()
        assert sum(1 for _ in opened) == 9_500
        assert resident_mb() - before < 10  # the frames themselves would be 92 MB


# ---- images ----


def write_images(folder: Path, names: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / name), marked_frame(index)[..., ::-1])
    return folder


def test_folder_is_sorted_naturally_and_rgb(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "img", ["img1.png", "IMG2.PNG", "img10.png", "img11.bmp"])
    (folder / "notes.txt").write_text("not an image")
    (folder / "._img1.png").write_text("what some systems leave behind")
    (folder / "old.png").mkdir()
    with open_frames(folder) as opened:
        assert (opened.frame_count, opened.fps) == (4, 30.0)
        seen = [(told_index(frame), opened.index, opened.time) for frame in opened]
    assert seen == [(i, i, i / 30) for i in range(4)]
    np.testing.assert_array_equal(next(open_frames(folder))[0, 0], RED)
    assert read_all(folder, start=1, end=3) == [1, 2]


def test_glob_pattern_picks_files(tmp_path: Path) -> None:
    write_images(tmp_path / "a", ["x1.png", "x2.png"])
    write_images(tmp_path / "b", ["x1.png", "y1.png"])
    assert read_all(str(tmp_path / "a" / "x*.png")) == [0, 1]
    assert len(read_all(str(tmp_path / "*" / "x[12].png"))) == 3
    assert len(read_all(str(tmp_path / "**" / "*1.png"))) == 3


def test_relative_glob_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "a", ["x1.png", "x2.png"])
    monkeypatch.chdir(tmp_path)
    assert read_all("a/x*.png") == [0, 1]


def test_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    assert read_all(write_video(tmp_path / "take[1].mp4", 3)) == [0, 1, 2]


def test_single_image_is_one_frame(tmp_path: Path) -> None:
    assert read_all(write_images(tmp_path, ["one.png"]) / "one.png") == [0]


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images in folder"):
        open_frames(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file matches the pattern .*\*\.png"):
        open_frames(str(tmp_path / "*.png"))


def test_start_beyond_the_last_image(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "img", ["1.png", "2.png"])
    with pytest.raises(ValueError, match="start 2 is beyond the end of .*img, which has 2 frames"):
        next(open_frames(folder, start=2))


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"junk" * 99, lambda data: data[: len(data) // 2]])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damaged_image_in_the_middle_is_named(tmp_path: Path, damage: Callable[[bytes], bytes], suffix: str) -> None:
    folder = write_images(tmp_path / "img", [f"{i}{suffix}" for i in range(3)])
    (folder / f"1{suffix}").write_bytes(damage((folder / f"1{suffix}").read_bytes()))
    opened = open_frames(folder)
    next(opened)
    with pytest.raises(ValueError, match=rf"cannot read image .*1\{suffix}"):
        next(opened)


def test_grey_alpha_and_16_bit_images_become_rgb(tmp_path: Path) -> None:
    rgb = marked_frame(7)
    alpha = np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 9, np.uint8)])
    cv2.imwrite(str(tmp_path / "1.png"), rgb[..., 0])
    cv2.imwrite(str(tmp_path / "2.png"), alpha)
    cv2.imwrite(str(tmp_path / "3.tif"), rgb[..., ::-1].astype(np.uint16) * 257)
    grey, dropped, scaled = open_frames(tmp_path)
    np.testing.assert_array_equal(grey, np.repeat(rgb[..., :1], 3, axis=2))
    np.testing.assert_array_equal(dropped, rgb)
    np.testing.assert_array_equal(scaled, rgb)


def test_float_image_is_refused_by_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.tif"), np.ones((4, 5, 3), np.float32))
    with pytest.raises(ValueError, match=r"cannot use image .*x\.tif: .*float32"):
        next(open_frames(tmp_path))


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    _, jpeg = cv2.imencode(".jpg", marked_frame(0)[..., ::-1])
    # A TIFF directory with one entry: orientation (0x0112) = 6, turn 90 degrees clockwise to view.
    exif = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "photo.jpg").write_bytes(jpeg.tobytes()[:2] + segment + jpeg.tobytes()[2:])
    frame = next(open_frames(tmp_path))
    assert frame.shape == (64, 48, 3)
    np.testing.assert_allclose(frame[5, -5], RED, atol=8)


# ---- arrays ----


def test_rgb_uint8_is_returned_untouched() -> None:
    image = np.zeros((6, 8, 3), np.uint8)[:, ::-1]
    assert as_rgb_uint8(image) is image


def test_16_bit_is_rounded_to_the_nearest_of_256_levels() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    converted = as_rgb_uint8(values)
    assert converted.dtype == np.uint8
    assert converted.flags.c_contiguous
    np.testing.assert_array_equal(converted[..., 1], np.round(values / 257.0).astype(np.uint8))
    np.testing.assert_array_equal(as_rgb_uint8(values.astype(">u2")), converted)


@pytest.mark.parametrize("channels", [1, 4])
def test_one_and_four_channels_are_converted(channels: int) -> None:
    image = np.arange(6 * 8 * channels, dtype=np.uint8).reshape(6, 8, channels)
    np.testing.assert_array_equal(as_rgb_uint8(image), np.repeat(image, 3, 2) if channels == 1 else image[..., :3])


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((6, 8, 3), np.float32), r"shape \(6, 8, 3\) and dtype float32"),
        (np.zeros((6, 8, 2), np.uint8), r"shape \(6, 8, 2\)"),
        (np.zeros((3, 6, 8), np.uint8), r"shape \(3, 6, 8\)"),
        (np.zeros((1, 6, 8, 3), np.uint8), r"shape \(1, 6, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
        (np.zeros((6, 8, 3), bool), "dtype bool"),
        (np.zeros((6, 8, 3), np.int64), "dtype int64"),
    ],
)
def test_other_arrays_are_refused_with_shape_and_dtype(image: NDArray[np.generic], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        as_rgb_uint8(image)


def test_what_is_no_array_is_refused() -> None:
    with pytest.raises(ValueError, match="got list"):
        as_rgb_uint8([[1, 2]])  # type: ignore[arg-type]


# ---- webcams ----


class FakeWebcam:
    """Stand in for cv2.VideoCapture: three blue-first frames, then nothing."""

    def __init__(self, index: int) -> None:
        self.left = 3
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def set(self, key: int, value: float) -> bool:
        return True

    def get(self, key: int) -> float:
        return 0.0  # as drivers do that do not know

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        self.left -= 1
        return (True, np.full((4, 6, 3), (1, 2, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize("source", [0, "0"])
def test_webcam_gives_rgb_until_it_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, source: int | str
) -> None:
    camera = FakeWebcam(0)
    monkeypatch.setattr(cv2, "VideoCapture", lambda index: camera)
    with caplog.at_level(logging.WARNING), open_frames(source) as opened:
        assert (opened.fps, opened.frame_count, opened.live) == (None, None, True)
        seen = list(opened)
        assert opened.time >= 0
    assert len(seen) == 3
    np.testing.assert_array_equal(seen[0][0, 0], (3, 2, 1))
    assert "webcam 0 gives no more frames" in caplog.text
    assert camera.released


def test_webcam_is_not_read_beyond_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = FakeWebcam(0)
    monkeypatch.setattr(cv2, "VideoCapture", lambda index: camera)
    assert len(list(open_frames(0, end=2))) == 2
    assert camera.left == 1


def test_missing_webcam_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="cannot open webcam 97"):
        open_frames(97)
    assert capfd.readouterr().err == ""  # OpenCV reports every backend that it tried
    with pytest.raises(ValueError, match="webcam must be 0 or more, got -1"):
        open_frames("-1")


# ---- streams, over the loopback interface ----


Serve = Callable[[bytes, str, bool], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that serves bytes, after a header, over HTTP once and then hangs up or goes silent."""
    servers: list[socket.socket] = []
    release = threading.Event()

    def start(data: bytes, header: str, silent: bool) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n{header}\r\n".encode() + data)
                if silent:
                    release.wait(30)

        threading.Thread(target=answer, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/live.ts"

    yield start
    release.set()
    for server in servers:
        server.close()


def drain(opened: Frames) -> int:
    return sum(1 for _ in opened)


@pytest.mark.parametrize("header", ["", "Connection: close\r\n"])
def test_live_stream_that_ends_says_so(
    tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    url = serve(write_video(tmp_path / "live.ts", 40).read_bytes(), header, False)
    with caplog.at_level(logging.WARNING), open_frames(url) as opened:
        assert opened.live
        assert opened.frame_count is None
        assert drain(opened) == 40
    assert f"{url} ended" in caplog.text


def test_video_behind_a_url_that_breaks_off_is_an_error(tmp_path: Path, serve: Serve) -> None:
    data = write_video(tmp_path / "clip.mkv", 60).read_bytes()
    url = serve(data[: len(data) // 2], f"Content-Length: {len(data)}\r\n", False)
    with open_frames(url) as opened:
        assert not opened.live
        times: list[float] = []
        with pytest.raises(OSError, match=f"cannot read {url}: Input/output error"):
            times.extend(opened.time for _ in opened)
    # The last of them were still in the decoder when it broke off.
    assert len(times) > 5 and times == pytest.approx([index / 25 for index in range(len(times))], abs=1e-3)


def test_video_behind_a_url_of_unknown_length_is_whole(tmp_path: Path, serve: Serve) -> None:
    url = serve(write_video(tmp_path / "clip.mkv", 60).read_bytes(), "", False)
    with open_frames(url) as opened:
        assert not opened.live and opened.frame_count
        assert drain(opened) == 60


def test_stream_that_stalls_is_a_timeout(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_reader, "STALL_SECONDS", 0.5)
    data = write_video(tmp_path / "live.ts", 200).read_bytes()
    with open_frames(serve(data[: len(data) // 2], "", True)) as opened:
        with pytest.raises(TimeoutError, match=r"live\.ts stalled: nothing came for 0\.5 s"):
            drain(opened)
        assert opened.index > 50


def test_stream_that_never_begins_is_a_timeout(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_reader, "STALL_SECONDS", 0.5)
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="stalled"):
        open_frames(serve(b"", "", True))
    assert 0.4 < time.monotonic() - begin < 2.5


def test_refused_connection_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"rtsp://127.0.0.1:{server.getsockname()[1]}/x"
    with pytest.raises(OSError, match=f"cannot read {url}: Connection refused"):
        open_frames(url)


def test_name_that_begins_with_a_tilde_is_a_file_where_nobody_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("~nobody-1.png", np.zeros((20, 30, 3), np.uint8))
    with open_frames("~nobody-1.png") as frames:
        assert [frame.shape for frame in frames] == [(20, 30, 3)]
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: ~nobody-2\.png"):
        open_frames("~nobody-2.png")
