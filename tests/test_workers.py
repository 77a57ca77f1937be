import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.batches import KILLED, SLOW, draw_video, job_for, recipe
from tracker.batch_video import Outcome
from tracker.manifest import VideoJob
from tracker.workers import Death, Finished, LocalWorkers, failure, run_jobs


def jobs(count: int) -> list[VideoJob]:
    return [job_for(Path(f"/{number}")) for number in range(count)]


class FakeWorkers:
    """Do jobs at once, the newest first; those named in `deaths` kill their process so often."""

    def __init__(self, capacity: int, deaths: dict[str, int] | None = None) -> None:
        self.capacity = capacity
        self.deaths = deaths or {}
        self.running: list[VideoJob] = []
        self.log: list[tuple[str, ...]] = []

    def submit(self, job: VideoJob) -> None:
        self.running.append(job)
        self.log.append(tuple(each.name for each in self.running))

    def wait(self) -> list[Finished]:
        job = self.running.pop()
        left = self.deaths.get(job.name, 0)
        self.deaths[job.name] = left - 1
        return [Finished(job, Death("by signal 9 (Killed)") if left > 0 else Outcome(job.name, True, 1, 0, 0.1, ""))]

    def close(self) -> None:
        self.running.clear()


# ---- the loop ----


def test_no_more_jobs_are_under_way_than_there_is_room_for() -> None:
    workers = FakeWorkers(2)
    assert {outcome.name for outcome in run_jobs(jobs(5), workers)} == set("01234")
    assert max(len(running) for running in workers.log) == 2


def test_a_job_whose_process_died_is_done_again_alone_at_the_end() -> None:
    workers = FakeWorkers(3, {"1": 1, "2": 2})
    outcomes = {outcome.name: outcome for outcome in run_jobs(jobs(5), workers)}
    assert [name for name in sorted(outcomes) if outcomes[name].done] == ["0", "1", "3", "4"]
    assert outcomes["2"].error == "its process died twice, by signal 9 (Killed)"
    assert workers.log[-2:] == [("2",), ("1",)]


def test_capacity_may_grow() -> None:
    workers = FakeWorkers(1)
    found = run_jobs(jobs(6), workers)
    next(found)
    workers.capacity = 3
    assert len(list(found)) == 5
    assert len(workers.log[-1]) <= 3 and max(len(running) for running in workers.log) == 3


def test_failure_is_one_line() -> None:
    assert failure(jobs(1)[0], "two\nlines") == Outcome("0", False, 0, 0, 0.0, "two lines")


# ---- processes ----


def test_no_worker_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        LocalWorkers(recipe(tmp_path), 0)


def test_one_process_and_two_give_the_same_boxes(tmp_path: Path) -> None:
    videos = [draw_video(tmp_path, f"v{number}", frames=3 + number) for number in range(3)]
    tables = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        workers = LocalWorkers(recipe(out), processes)
        outcomes = sorted((outcome.name, outcome.frames) for outcome in run_jobs(map(job_for, videos), workers))
        workers.close()
        assert outcomes == [("v0", 3), ("v1", 4), ("v2", 5)]
        tables.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert tables[0] == tables[1] and len(tables[0]) == 3
    assert not multiprocessing.active_children()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_video_that_kills_its_process_fails_alone(tmp_path: Path) -> None:
    kinds = {"a": 0, "bad": KILLED, "b": 0, "c": 0}
    videos = [draw_video(tmp_path, name, kind) for name, kind in kinds.items()]
    workers = LocalWorkers(recipe(tmp_path / "out"), 2)
    outcomes = {outcome.name: outcome for outcome in run_jobs(map(job_for, videos), workers)}
    workers.close()
    assert {name for name, outcome in outcomes.items() if outcome.done} == {"a", "b", "c"}
    assert outcomes["bad"].error == "its process died twice, by signal 9 (Killed)"
    assert not (tmp_path / "out" / "bad.csv").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_processes_that_are_killed_while_they_wait_are_replaced_and_close_kills_those_at_work(tmp_path: Path) -> None:
    calm, slow = draw_video(tmp_path, "calm"), draw_video(tmp_path, "slow", SLOW, frames=200)
    workers = LocalWorkers(recipe(tmp_path / "out"), 1)
    workers.submit(job_for(calm))
    ((_, first),) = workers.wait()
    assert isinstance(first, Outcome) and first.done
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    workers.submit(job_for(slow))
    began = time.monotonic()
    workers.close()
    assert time.monotonic() - began < 5
    assert not multiprocessing.active_children()
    assert not (tmp_path / "out" / "slow.csv").exists()
