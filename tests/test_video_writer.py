import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from tracker.frames import open_frames
from tracker.interface import Frame
from tracker.video_writer import VideoWriter


def coloured(size_hw: tuple[int, int] = (48, 64), colour: tuple[int, int, int] = (200, 40, 60)) -> Frame:
    return np.full((*size_hw, 3), colour, np.uint8)


def read(path: Path) -> tuple[list[Frame], list[float]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in frames], [f.time for f in frames]


def write(path: Path, times: Sequence[float], fps: float = 25.0) -> list[float]:
    with VideoWriter(path, fps, (48, 64)) as writer:
        for seconds in times:
            writer.write(coloured(), seconds)
    return read(path)[1]


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "h264"), (".mkv", "h264"), (".MOV", "h264"), (".avi", "mpeg4"), (".webm", "vp9")]
)
def test_each_format_keeps_frames_colour_and_rate(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"out{suffix}"
    assert len(write(path, [i / 25 for i in range(30)])) == 30
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec.canonical_name == codec
        assert stream.average_rate == 25
        assert stream.pix_fmt == "yuv420p"
    frames, times = read(path)
    assert times == pytest.approx([i / 25 for i in range(30)], abs=1e-3)
    assert frames[0].shape == (48, 64, 3)
    np.testing.assert_allclose(frames[29].reshape(-1, 3).mean(axis=0), (200, 40, 60), atol=8)


def test_ntsc_rate_is_exact(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 30000 / 1001, (48, 64)) as writer:
        for index in range(10):
            writer.write(coloured(), index * 1001 / 30000)
    with av.open(str(tmp_path / "out.mp4")) as container:
        rate = container.streams.video[0].average_rate
    assert rate is not None
    assert (rate.numerator, rate.denominator) == (30000, 1001)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
@pytest.mark.parametrize("size_hw", [(48, 64), (720, 1280)])
def test_colours_are_those_of_bt709_and_named(tmp_path: Path, suffix: str, size_hw: tuple[int, int]) -> None:
    with VideoWriter(tmp_path / f"out{suffix}", 25, size_hw) as writer:
        for index in range(3):
            writer.write(coloured(size_hw), index / 25)
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (1, 1)
    shown = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709).to_ndarray()
    np.testing.assert_allclose(shown.reshape(-1, 3).mean(axis=0), (200, 40, 60), atol=4)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".avi"])
def test_pixels_that_are_not_square_stay_so(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, 25, (48, 64), pixel_aspect=Fraction(4, 3)) as writer:
        for index in range(3):
            writer.write(coloured(), index / 25)
    with open_frames(path) as frames:
        assert next(frames).shape == (48, 64, 3)
        assert frames.pixel_aspect == Fraction(4, 3)


@pytest.mark.parametrize("size_hw", [(47, 63), (1, 1), (48, 63)])
def test_odd_sizes_are_made_even_by_repeating_the_edge(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 25, size_hw) as writer:
        for index in range(3):
            writer.write(coloured(size_hw), index / 25)
    frames, _ = read(path)
    assert frames[0].shape[:2] == (size_hw[0] + size_hw[0] % 2, size_hw[1] + size_hw[1] % 2)
    np.testing.assert_allclose(frames[0][-1, -1], (200, 40, 60), atol=10)


def test_frame_of_another_size_is_scaled_to_fit_on_black(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 25, (48, 64)) as writer:
        for index, size_hw in enumerate([(48, 64), (96, 64), (12, 64), (96, 128)]):
            writer.write(coloured(size_hw), index / 25)
    same, tall, wide, double = read(path)[0]
    for frame, centre_only in ((same, False), (tall, True), (wide, True), (double, False)):
        np.testing.assert_allclose(frame[24, 32], (200, 40, 60), atol=10)
        np.testing.assert_allclose(frame[1, 1], (0, 0, 0) if centre_only else (200, 40, 60), atol=10)
    # 96 x 64 in 48 x 64 is 48 x 32, columns 16 to 47; 12 x 64 stays, rows 18 to 29.
    np.testing.assert_allclose(tall[24, [12, 51]], 0, atol=10)
    np.testing.assert_allclose(wide[[15, 32], 32], 0, atol=10)


def test_frames_that_the_source_dropped_leave_a_gap(tmp_path: Path) -> None:
    assert write(tmp_path / "out.mp4", [5.0, 5.1, 5.3, 5.4], fps=10) == pytest.approx([0.0, 0.1, 0.3, 0.4], abs=1e-4)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_a_rate_that_changes_is_that_of_the_source(tmp_path: Path, suffix: str) -> None:
    fast = [index / 30 for index in range(60)]
    given = [*fast, *(2 + index / 15 for index in range(30))]  # as phones do in the dark
    assert write(tmp_path / f"out{suffix}", given, fps=22.5) == pytest.approx(given, abs=1e-3)


def test_times_that_the_source_rounded_are_even_again(tmp_path: Path) -> None:
    given = [round(index / 30, 3) for index in range(30)]
    times = write(tmp_path / "out.mp4", given, fps=30)
    assert times == pytest.approx([index / 30 for index in range(30)], abs=1e-6)


def test_frames_of_avi_that_come_too_fast_follow_one_another(tmp_path: Path) -> None:
    times = write(tmp_path / "out.avi", [0.0, 0.01, 0.02, 0.3], fps=10)
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3], abs=1e-4)


def test_frames_of_one_time_follow_one_another(tmp_path: Path) -> None:
    times = write(tmp_path / "out.mkv", [0.0, 0.0, 0.0, 0.1], fps=10)
    assert len(times) == 4 and times == sorted(set(times)) and times[-1] == pytest.approx(0.1)


def test_a_gap_in_a_file_stays(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 10, (48, 64), longest_gap_s=60.0) as writer:
        for seconds in (0.0, 0.1, 30.1, 30.2, 130.2):
            writer.write(coloured(), seconds)
    assert read(tmp_path / "out.mp4")[1] == pytest.approx([0.0, 0.1, 30.1, 30.2, 30.3])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("fps", [120000 / 1001, 240.0, 24000 / 1001, 7.3])
def test_any_rate_can_be_written(tmp_path: Path, suffix: str, fps: float) -> None:
    given = [index / fps for index in range(12)]
    assert write(tmp_path / f"out{suffix}", given, fps=fps) == pytest.approx(given, abs=2e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_what_was_written_before_a_kill_plays(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    code = f"""
import os
from pathlib import Path
import numpy as np
from tracker.video_writer import VideoWriter
rng = np.random.default_rng(0)
with VideoWriter(Path({str(path)!r}), 30, (120, 160)) as writer:
    for index in range(200):
        writer.write(rng.integers(0, 255, (120, 160, 3), np.uint8), index / 30)
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with open_frames(path) as frames:
        assert sum(1 for _ in frames) > 100


@pytest.mark.parametrize("jump", [30.0, -30.0])
def test_a_pause_or_a_reset_clock_is_closed(tmp_path: Path, jump: float) -> None:
    times = write(tmp_path / "out.mp4", [40.0, 40.1, 40.2 + jump, 40.4 + jump], fps=10)
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.4], abs=1e-4)


def test_file_plays_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "out.mp4", 25, (48, 64)) as writer:
        for index in range(7):
            writer.write(coloured(), index / 25)
        raise KeyboardInterrupt
    assert len(read(tmp_path / "out.mp4")[0]) == 7


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".avi", ".webm"])
def test_a_file_that_was_given_no_frame_is_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"none{suffix}"
    code = """
import sys
from pathlib import Path
from tracker.video_writer import VideoWriter
with VideoWriter(Path(sys.argv[1]), 25.0, (33, 48)):
    pass
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)  # FFmpeg may crash
    assert done.returncode == 0, done.stderr
    with open_frames(path) as frames:
        shown = list(frames)
    assert [frame.shape for frame in shown] == [(34, 48, 3)]
    assert shown[0].max() < 8


@pytest.mark.parametrize("name", ["out.txt", "out", "out.gif"])
def test_unknown_extension_says_what_to_use(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"the name must end in one of \.mp4, \.mkv, \.mov, \.avi, \.webm"):
        VideoWriter(tmp_path / name, 25, (48, 64))
    assert list(tmp_path.iterdir()) == []


def test_path_that_cannot_be_written_is_named_before_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write .*out\.mp4: No such file or directory$"):
        VideoWriter(tmp_path / "missing" / "out.mp4", 25, (48, 64))
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OSError, match=r"cannot write .*folder\.mp4: Is a directory$"):
        VideoWriter(tmp_path / "folder.mp4", 25, (48, 64))


def test_mpeg4_stands_in_for_a_missing_h264_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = av.Codec

    def without_h264(name: str, mode: str) -> av.Codec:
        if name == "libx264":
            raise av.codec.codec.UnknownCodecError(name)
        return real(name, "w")

    monkeypatch.setattr(av, "Codec", without_h264)
    assert len(write(tmp_path / "out.mp4", [0.0, 0.04, 0.08])) == 3
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec.canonical_name == "mpeg4"


def test_full_disk_is_one_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    generator = np.random.default_rng(0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with (
            pytest.raises(OSError, match=r"cannot write .*out\.avi: File too large$"),
            VideoWriter(tmp_path / "out.avi", 25, (240, 320)) as writer,
        ):
            for index in range(20):
                writer.write(generator.integers(0, 255, (240, 320, 3), np.uint8), index / 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
