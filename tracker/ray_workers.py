"""Do the jobs of a batch on a Ray cluster (Moritz et al. 2018), or in the processes that Ray starts on this machine."""

from importlib import import_module
from typing import Any
from uuid import uuid4

from tracker.batch_video import Outcome, Recipe, VideoWorker
from tracker.manifest import VideoJob
from tracker.workers import Finished, failure

_RETRIES = 2  # of a task whose process or machine dies: a machine that is taken away is no fault of the video
_QUEUED = 2  # tasks a core: none waits for the next one, and a cluster that can grow sees that there is more to do


class RayWorkers:
    """Do each job as a Ray task on one core. Videos and results must be where every machine sees them, by one path."""

    def __init__(self, recipe: Recipe[Any], address: str | None, tasks: int | None) -> None:
        """Connect to a cluster: at a ray:// address, for None the one that runs here, or a new one on this machine.

        tasks: how many may be under way; None: as the cores of the cluster have use for. Raises ValueError where Ray is
        not installed, ConnectionError where nobody answers.
        """
        try:
            ray: Any = import_module("ray")
        except ImportError as error:
            raise ValueError("Ray is not installed: pip install 'siamtrack[ray]'") from error
        self._ray = ray
        self._tasks = tasks
        self._running: dict[Any, VideoJob] = {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises bare ones
            raise ConnectionError(f"cannot reach Ray at {address or 'this machine'}: {error}") from error
        self._run = ray.remote(num_cpus=1, max_retries=_RETRIES)(_run_task)
        self._recipe = ray.put(recipe)
        self._key = uuid4().hex

    @property
    def capacity(self) -> int:
        """Return how many tasks may be under way; it grows with the cluster."""
        return self._tasks or _QUEUED * max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def submit(self, job: VideoJob) -> None:
        """Hand in a task. Raises ConnectionError where the cluster is gone."""
        self._running[self._run.remote(self._key, self._recipe, job)] = job

    def wait(self) -> list[Finished]:
        """Wait until a task or more are done, and return them: one whose process died for good has failed."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1)
        ended = [(task, self._running.pop(task)) for task in ready]
        return [Finished(job, self._outcome(task, job)) for task, job in ended]

    def _outcome(self, task: object, job: VideoJob) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(task)
        except self._ray.exceptions.WorkerCrashedError:
            return failure(job, f"its process died {_RETRIES + 1} times; the logs of Ray say how")
        except self._ray.exceptions.RayError as error:
            return failure(job, f"Ray: {error}")
        return outcome

    def close(self) -> None:
        """Stop the tasks that are under way and leave the cluster."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()
        self._ray.shutdown()


_loaded: "dict[str, VideoWorker[Any]]" = {}  # of a process of Ray's: the worker of the batch it works for


def _run_task(key: str, recipe: Recipe[Any], job: VideoJob) -> Outcome:
    """Track in a process of Ray's, with the tracker that an earlier task of this batch has loaded there."""
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = VideoWorker(recipe)
    return _loaded[key].run(job)
