import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import memory
from benchmarks.memory import Sample
from tracker.frames import open_frames

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc, which Linux has")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@needs_proc
def test_memory_of_a_process_is_read_in_mib() -> None:
    before = memory.read_memory(os.getpid(), 3)
    assert before is not None and before.frames == 3 and 10 < before.resident <= before.peak < 100_000
    block = bytearray(os.urandom(1 << 20) * 64)
    after = memory.read_memory("self", 4)
    assert after is not None and 60 < after.resident - before.resident < 80
    del block


def test_a_process_that_has_ended_has_no_memory() -> None:
    assert memory.read_memory(2**22 + 1, 0) is None  # larger than any process id


def test_growth_is_told_between_the_settled_frame_and_the_end() -> None:
    samples = [Sample(0, 10.0, 50.0), Sample(150, 20.0, 50.0), Sample(210, 30.0, 50.0), Sample(400, 31.0, 50.0)]
    samples += [Sample(610, 32.0, 50.0), Sample(800, 33.0, 50.0), Sample(990, 34.0, 51.0)]
    table = [line for line in memory.command_report(samples, 1000, "m") if line.startswith("|")][2:]
    assert table == [
        "| settled | 210 | 30.0 |",
        "| 25% of the way | 610 | 32.0 |",
        "| 50% of the way | 610 | 32.0 |",
        "| 75% of the way | 990 | 34.0 |",
        "| last sample | 990 | 34.0 |",
        "| peak | | 51.0 |",
    ]


def test_a_run_that_is_over_too_soon_is_an_error() -> None:
    with pytest.raises(ValueError, match="100 frames were over too soon to see memory grow; ask for more"):
        list(memory.command_report([Sample(0, 1.0, 1.0), Sample(100, 1.0, 1.0)], 100, "m"))


def test_the_long_video_goes_forth_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.clip

    def three(size_wh: tuple[int, int]) -> tuple[list, list]:
        frames, boxes = whole(size_wh)
        return [frame * 0 + value for frame, value in zip(frames[:3], (40, 120, 200), strict=True)], boxes[:3]

    monkeypatch.setattr(memory, "clip", three)
    box = memory.write_video(tmp_path / "long.mp4", 7)
    with open_frames(tmp_path / "long.mp4") as frames:
        assert [round(float(frame.mean()), -1) for frame in frames] == [40, 120, 200, 120, 40, 120, 200]
    assert box == whole((320, 240))[1][0]


@needs_proc
def test_learning_is_reported_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.main(["--frames", "0", "--updates", "3"]) == 0
    row = capsys.readouterr().out.strip().splitlines()[-1]
    times, resident, answer, correction = (float(cell) for cell in row.strip("|").split("|"))
    assert times == 3 and resident > 10
    assert answer == pytest.approx(1.0, abs=0.2)  # 1 is the answer to the first frame
    assert correction < 2.0


@needs_proc
def test_what_goes_wrong_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.main(["--frames", "0", "--updates", "3", "--model", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown model 'nothing'")


@needs_proc
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_stays_flat_over_a_thousand_frames(tmp_path: Path) -> None:
    samples = memory.watch_command(tmp_path, 1200, "resnet18_online")
    settled = next(sample for sample in samples if sample.frames >= memory.SETTLED_FRAME)
    assert samples[-1].resident - settled.resident < 20  # a thousand frames of 320x240 are 220 MiB


@pytest.mark.slow
def test_a_command_that_fails_is_an_error_with_its_message(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match="ended after 0 frames: .*unknown model 'nothing'"):
        memory.watch_command(tmp_path, 3, "nothing")
