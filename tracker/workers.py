"""Do the jobs of a batch in other processes, and outlive those that die."""

import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection
from typing import Any, NamedTuple, Protocol

from tracker.batch_video import Outcome, Recipe, VideoWorker
from tracker.manifest import VideoJob
from tracker.threads import end_with_parent

_CONTEXT = multiprocessing.get_context("spawn")  # a fork would share the locks of threads that it does not have
_DYING_SECONDS = 5.0  # between the end of a process's pipe and its own


@dataclass(frozen=True, slots=True)
class Death:
    """Say that the process of a job died, and how."""

    reason: str


class Finished(NamedTuple):
    """Hold a job that is no longer under way."""

    job: VideoJob
    end: Outcome | Death


class Workers(Protocol):
    """Do jobs somewhere else, `capacity` of them at a time."""

    @property
    def capacity(self) -> int:
        """Return how many jobs may be under way."""

    def submit(self, job: VideoJob) -> None:
        """Begin a job. Raises OSError where there is nobody left to do it."""

    def wait(self) -> list[Finished]:
        """Wait until a job or more are no longer under way, and return them. Raises OSError as `submit` does."""

    def close(self) -> None:
        """Stop at once, whatever is under way."""


def run_jobs(jobs: Iterable[VideoJob], workers: Workers) -> Iterator[Outcome]:
    """Yield what became of each job, as it gets done.

    A job whose process dies is done again at the end, alone: where the first death was for want of memory, its own need
    may not have been the cause. It has failed if its process dies again.
    """
    waiting = iter(jobs)
    running = 0
    suspects: list[VideoJob] = []
    while True:
        for job in islice(waiting, max(0, workers.capacity - running)):
            workers.submit(job)
            running += 1
        if not running:
            break
        for job, end in workers.wait():
            running -= 1
            if isinstance(end, Outcome):
                yield end
            else:
                suspects.append(job)
    for suspect in suspects:
        workers.submit(suspect)
        ((_, end),) = workers.wait()
        yield end if isinstance(end, Outcome) else failure(suspect, f"its process died twice, {end.reason}")


def failure(job: VideoJob, reason: str) -> Outcome:
    """Return the outcome of a job that nothing is known of but why it failed."""
    return Outcome(job.name, done=False, frames=0, lost_frames=0, seconds=0.0, error=" ".join(reason.split()))


class LocalWorkers:
    """Do jobs in processes of this machine, which start when they are needed; each loads one tracker."""

    def __init__(self, recipe: Recipe[Any], processes: int) -> None:
        """Start nothing yet. Raises ValueError for less than one process."""
        if processes < 1:
            raise ValueError(f"workers must be at least 1, got {processes}")
        self.capacity = processes
        self._recipe = recipe
        self._idle: list[_Process] = []
        self._busy: list[tuple[_Process, VideoJob]] = []

    def submit(self, job: VideoJob) -> None:
        """Begin a job in a process that has none, or in a new one."""
        while True:
            process = self._idle.pop() if self._idle else _Process(self._recipe)
            try:
                process.pipe.send(job)
            except OSError:  # it was killed while it had nothing to do
                process.kill()
                continue
            self._busy.append((process, job))
            return

    def wait(self) -> list[Finished]:
        """Wait until a job or more are done or their processes died, and return them."""
        ready = connection.wait([process.pipe for process, _ in self._busy])
        ended = [(process, job) for process, job in self._busy if process.pipe in ready]
        self._busy = [(process, job) for process, job in self._busy if process.pipe not in ready]
        finished = []
        for process, job in ended:
            try:
                finished.append(Finished(job, process.pipe.recv()))
                self._idle.append(process)
            except (EOFError, OSError):  # it ended, perhaps in the middle of a message
                finished.append(Finished(job, Death(process.cause_of_death())))
        return finished

    def close(self) -> None:
        """Kill the processes: what they were doing leaves nothing but a folder of its own."""
        for process in [*self._idle, *(process for process, _ in self._busy)]:
            process.kill()
        self._idle, self._busy = [], []


class _Process:
    """Hold a process that takes jobs from a pipe and answers with outcomes."""

    def __init__(self, recipe: Recipe[Any]) -> None:
        self.pipe, there = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(there, recipe), daemon=True)
        self._process.start()
        there.close()  # so that its end is seen here

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def cause_of_death(self) -> str:
        self._process.join(_DYING_SECONDS)
        self.kill()
        code = self._process.exitcode or 0
        return f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit status {code}"


def _serve(pipe: "connection.Connection[Outcome, VideoJob]", recipe: Recipe[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent stops us
    end_with_parent()  # a video may take hours
    worker = VideoWorker(recipe)
    while True:
        try:
            pipe.send(worker.run(pipe.recv()))
        except (EOFError, OSError):  # the parent is gone
            return
