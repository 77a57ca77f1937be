import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.batches import BOX, BROKEN, LOST, ColourTracker, draw_video, job_for, recipe
from tracker.batch_video import Outcome, VideoWorker
from tracker.frames import open_frames
from tracker.geometry import Box
from tracker.interface import Frame
from tracker.video_writer import VideoWriter

CLIP = Path(__file__).parent.parent / "tracker" / "assets" / "demo.mp4"


def run(out: Path, video: Path, *boxes: Box, save_videos: bool = False) -> Outcome:
    return VideoWorker(recipe(out, save_videos)).run(job_for(video, *boxes))


def left(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


def test_boxes_of_all_targets_and_the_drawn_video(tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = run(out, draw_video(tmp_path, "a"), BOX, Box.from_xywh(20, 20, 8, 8), save_videos=True)
    assert (outcome.name, outcome.done, outcome.frames, outcome.lost_frames, outcome.error) == ("a", True, 4, 0, "")
    assert outcome.seconds > 0
    assert (out / "a.csv").read_text().splitlines()[:5] == [
        "frame,time,target,x,y,w,h,score,lost",
        "0,0.0000,0,8.00,8.00,16.00,12.00,1.0000,0",
        "0,0.0000,1,20.00,20.00,8.00,8.00,1.0000,0",
        "1,0.0333,0,9.00,8.00,16.00,12.00,0.5000,0",
        "1,0.0333,1,21.00,20.00,8.00,8.00,0.5000,0",
    ]
    with av.open(str(out / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4
    assert left(out) == {"a.csv", "a.mp4"}


def test_drawn_video_has_the_pixels_of_its_source(tmp_path: Path) -> None:
    source, out = tmp_path / "a.mp4", tmp_path / "out"
    with VideoWriter(source, 25, (48, 64), pixel_aspect=Fraction(4, 3)) as writer:
        for index in range(4):
            writer.write(np.zeros((48, 64, 3), np.uint8), index / 25)
    assert run(out, source, BOX, save_videos=True).done
    with open_frames(next(out.glob("*.mp4"))) as frames:
        next(frames)
        assert frames.pixel_aspect == Fraction(4, 3)


def test_lost_frames_are_counted_over_all_targets(tmp_path: Path) -> None:
    assert run(tmp_path / "out", draw_video(tmp_path, "a", LOST), BOX, BOX).lost_frames == 6


def test_start_and_end_are_kept(tmp_path: Path) -> None:
    video = draw_video(tmp_path, "a")
    VideoWorker(recipe(tmp_path / "out")).run(job_for(video, start=1, end=3))
    lines = (tmp_path / "out" / "a.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["frame", "1", "2"]


@pytest.mark.parametrize("save_videos", [False, True])
def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path, save_videos: bool) -> None:
    video = draw_video(tmp_path, "a")
    (video / "2.png").write_bytes(b"damaged")
    outcome = run(tmp_path / "out", video, save_videos=save_videos)
    assert not outcome.done and outcome.frames == 2
    assert "2.png" in outcome.error
    assert not left(tmp_path / "out")


def test_missing_videos_and_boxes_outside_are_told(tmp_path: Path) -> None:
    assert "no such file or folder" in run(tmp_path / "out", tmp_path / "gone.mp4").error
    outside = run(tmp_path / "out", draw_video(tmp_path, "a"), Box.from_xywh(500, 5, 8, 8))
    assert "lies outside the 64x48 frame" in outside.error
    assert not left(tmp_path / "out")


def test_an_unexpected_failure_is_one_line_and_the_tracker_is_loaded_again(tmp_path: Path) -> None:
    loaded: list[ColourTracker] = []
    plain = recipe(tmp_path / "out")

    def load() -> ColourTracker:
        loaded.append(ColourTracker())
        return loaded[-1]

    worker = VideoWorker(type(plain)(load, plain.fork, plain.update_many, plain.out, False))
    videos = [draw_video(tmp_path, "a"), draw_video(tmp_path, "b"), draw_video(tmp_path, "c", BROKEN)]
    first, second, broken = (worker.run(job_for(video)) for video in videos)
    assert first.done and second.done and len(loaded) == 1
    assert broken.error == "RuntimeError: the runtime fails"
    assert worker.run(job_for(videos[0])).done and len(loaded) == 2


def test_warnings_of_one_that_is_done_are_told_and_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = recipe(tmp_path / "out")

    def update_many(trackers: list[ColourTracker], frame: Frame) -> list[object]:
        logging.getLogger("tracker.frames").warning("%d packets skipped", 3)
        return [tracker.update(frame) for tracker in trackers]

    worker = VideoWorker(type(plain)(plain.load, plain.fork, update_many, plain.out, False))  # type: ignore[arg-type]
    outcome = worker.run(job_for(draw_video(tmp_path, "a", frames=3)))
    assert outcome.done and outcome.error == "3 packets skipped; 3 packets skipped"
    assert capsys.readouterr().err == ""


def test_a_folder_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    order = recipe(tmp_path / "out")
    (tmp_path / "out").rmdir()  # as on a machine that does not share it
    outcome = VideoWorker(order).run(job_for(draw_video(tmp_path, "a")))
    assert not outcome.done and "out" in outcome.error
    assert not (tmp_path / "out").exists()


def test_a_video_that_was_cut_off_is_told(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    with open_frames(CLIP, end=40) as frames, VideoWriter(whole, 25, (480, 640)) as writer:
        for frame in frames:
            writer.write(frame, frames.time)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    box = Box.from_xywh(132, 111, 95, 87)
    assert run(tmp_path / "out", whole, box).error == ""
    outcome = run(tmp_path / "out", cut, box)
    assert outcome.done and 5 < outcome.frames < 35
    assert outcome.error == f"{cut} ends after {outcome.frames} frames, where its header promises 40"
