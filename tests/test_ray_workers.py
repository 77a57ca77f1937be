import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.batches import KILLED, draw_video, job_for, recipe
from tracker import ray_workers
from tracker.batch_video import Outcome
from tracker.ray_workers import RayWorkers
from tracker.workers import run_jobs


class RayError(Exception):
    pass


class WorkerCrashedError(RayError):
    pass


class FakeRay(ModuleType):
    """Do tasks in this process when they are waited for; one whose video has a name in `crashes` crashes."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.exceptions = SimpleNamespace(RayError=RayError, WorkerCrashedError=WorkerCrashedError)
        self.log: list[object] = []
        self.crashes: dict[str, RayError] = {}
        self.cores = 2.0
        self.reachable = True

    def init(self, address: str | None, **_: object) -> None:
        if not self.reachable:
            raise Exception("timed out")
        self.log.append(("init", address))

    def remote(self, **options: object) -> Callable[[Callable[..., Outcome]], SimpleNamespace]:
        self.log.append(options)
        return lambda function: SimpleNamespace(remote=lambda *given: (function, given))

    def put(self, value: object) -> object:
        return value

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cores}

    def wait(self, tasks: list[object], num_returns: int) -> tuple[list[object], list[object]]:
        return tasks[:num_returns], tasks[num_returns:]

    def get(self, task: tuple[Callable[..., Outcome], tuple[object, ...]]) -> Outcome:
        function, given = task
        crash = self.crashes.get(given[-1].name)  # type: ignore[attr-defined]
        if crash:
            raise crash
        return function(*given)

    def cancel(self, task: tuple[object, tuple[object, ...]], force: bool) -> None:
        self.log.append(("cancel", task[1][-1].name, force))  # type: ignore[attr-defined]

    def shutdown(self) -> None:
        self.log.append("shutdown")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(ray_workers, "_loaded", {})
    return fake


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"Ray is not installed: pip install 'siamtrack\[ray\]'"):
        RayWorkers(recipe(tmp_path), None, None)


def test_a_cluster_that_does_not_answer_is_an_oserror(tmp_path: Path, ray: FakeRay) -> None:
    ray.reachable = False
    with pytest.raises(ConnectionError, match="cannot reach Ray at ray://far:10001: timed out"):
        RayWorkers(recipe(tmp_path), "ray://far:10001", None)


def test_tasks_are_done_with_one_tracker_and_retried_a_bounded_number_of_times(tmp_path: Path, ray: FakeRay) -> None:
    videos = [draw_video(tmp_path, name) for name in "abc"]
    ray.crashes = {"b": WorkerCrashedError("gone"), "c": RayError("no siamtrack\nthere")}
    workers = RayWorkers(recipe(tmp_path / "out"), "ray://far:10001", None)
    outcomes = {outcome.name: outcome for outcome in run_jobs(map(job_for, videos), workers)}
    assert ray.log == [("init", "ray://far:10001"), {"num_cpus": 1, "max_retries": 2}]
    assert outcomes["a"].done and (tmp_path / "out" / "a.csv").exists()
    assert outcomes["b"].error == "its process died 3 times; the logs of Ray say how"
    assert outcomes["c"].error == "Ray: no siamtrack there"
    assert len(ray_workers._loaded) == 1


def test_another_batch_in_the_same_process_loads_its_own_tracker(tmp_path: Path, ray: FakeRay) -> None:
    video = draw_video(tmp_path, "a")
    for out in ("one", "two"):
        ((_, outcome),) = submit_and_wait(RayWorkers(recipe(tmp_path / out), None, 1), video)
        assert isinstance(outcome, Outcome) and outcome.done
        assert (tmp_path / out / "a.csv").exists()
    assert len(ray_workers._loaded) == 1


def submit_and_wait(workers: RayWorkers, video: Path) -> list[tuple[object, object]]:
    workers.submit(job_for(video))
    return [tuple(finished) for finished in workers.wait()]  # type: ignore[misc]


def test_capacity_is_what_was_asked_for_or_grows_with_the_cluster(tmp_path: Path, ray: FakeRay) -> None:
    assert RayWorkers(recipe(tmp_path), None, 5).capacity == 5
    workers = RayWorkers(recipe(tmp_path), None, None)
    assert workers.capacity == 4
    ray.cores = 64
    assert workers.capacity == 128


def test_close_stops_what_is_under_way(tmp_path: Path, ray: FakeRay) -> None:
    workers = RayWorkers(recipe(tmp_path), None, None)
    workers.submit(job_for(Path("/a")))
    workers.close()
    assert ray.log[-2:] == [("cancel", "a", True), "shutdown"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_on_ray_itself(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs siamtrack[ray]")
    videos = [draw_video(tmp_path, name, kind) for name, kind in (("a", 0), ("bad", KILLED), ("b", 0))]
    workers = RayWorkers(recipe(tmp_path / "out"), "local", 2)  # a new cluster, whatever runs here
    try:
        outcomes = {outcome.name: outcome for outcome in run_jobs(map(job_for, videos), workers)}
    finally:
        workers.close()
    assert {name for name, outcome in outcomes.items() if outcome.done} == {"a", "b"}
    assert "its process died 3 times" in outcomes["bad"].error
    assert (tmp_path / "out" / "a.csv").read_bytes() == (tmp_path / "out" / "b.csv").read_bytes()
