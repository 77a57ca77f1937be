import copy
import errno
import pickle
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from tests.data.packing import number_in, packed, rule, tracks_of, write_tracks
from tests.data.test_pairs import BLUE, GREEN, PLAIN, RED, RICH, equal, make_track
from tracker.data import storage
from tracker.data.pairs import PairDataset, Pairs
from tracker.data.shard_index import INDEX, ShardSet, open_shards
from tracker.data.shard_pairs import Lanes, ShardPairs
from tracker.data.shard_stream import ShardOrder, Window
from tracker.data.storage import open_file, place_of
from tracker.data.track_pool import TrackPool
from tracker.training.trainer import _From

SMALL = 0.012  # MB a shard
WIDE = 30000  # bytes: most of the tracks
BATCH = 4
ALONE = Lanes(1, 1, BATCH)
MIXED = replace(PLAIN, negative_share=0.4, still_share=0.3, same_class_share=0.5)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("shards")
    return packed(write_tracks(folder / "data", videos=10, stills=14), folder / "out", rule(SMALL))


def pairs_of(
    shards: ShardSet,
    lanes: Lanes = ALONE,
    buffer: int = 10000,
    length: int = 100000,
    weights: dict[str, float] | None = None,
) -> ShardPairs:
    return ShardPairs(shards, weights or {}, MIXED, 3, length, lanes, buffer)


def test_draws_are_what_they_were_when_drawing_had_no_pool_of_its_own(tmp_path: Path) -> None:
    tracks = [make_track(tmp_path, RED, 4), make_track(tmp_path, BLUE, 3, source="other"), make_track(tmp_path, GREEN)]
    pairs = PairDataset(tracks, {"set": 2.0}, replace(RICH, still_share=0.3), seed=3, length=200)
    # Printed by PairDataset of commit 2c8ccad, which held tracks and drew from them in one.
    golden = {
        1: ([-0.508, 0.271, 17.389, 17.389], [-8.384, -0.248, 17.413, 18.794, -5.737, 3.097, 14.379, 16.015], [1, 0]),
        57: ([-1.811, 2.388, 17.708, 17.708], [5.817, -2.463, 15.487, 12.768, -6.883, 2.902, 17.054, 17.035], [1, 1]),
        199: (
            [0.732, -3.166, 20.102, 20.102],
            [-12.167, -0.328, 14.323, 19.928, -12.996, 1.637, 21.595, 19.601],
            [1, 0],
        ),
    }
    means = {1: [68.6, 79.3, 68.0], 57: [81.5, 55.2, 90.5], 199: [58.5, 79.0, 67.1]}
    for index, (template_box, boxes, positive) in golden.items():
        item = pairs[index]
        assert item.template_box.tolist() == pytest.approx(template_box, abs=0.0006)
        assert item.boxes.flatten().tolist() == pytest.approx(boxes, abs=0.0006)
        assert item.positive.tolist() == positive
        crops = [float(crop.float().mean()) for crop in (item.template, *item.searches)]
        assert crops == pytest.approx(means[index], abs=0.5)  # OpenCV rounds as the processor lets it


def test_what_fits_the_buffer_is_held_whole_and_drawn_as_from_a_folder(shards: ShardSet) -> None:
    folder = PairDataset(tracks_of(shards), {}, MIXED, seed=3, length=50)
    for lanes in (ALONE, Lanes(4, 9, 2)):  # more of them than shards
        held = pairs_of(shards, lanes, buffer=shards.index.picture_bytes, length=50)
        assert held.fits
        seen = Counter(number_in(held[i].template) for i in range(50))
        assert len(seen) > 12
        assert held._drawer(0, 0).pool is held._drawer(0, 0).pool  # nothing is read twice
    assert Counter(number_in(folder[i].template) for i in range(50)).keys() & seen.keys()


def test_pairs_keep_the_rules_of_the_pool(shards: ShardSet) -> None:
    pairs = pairs_of(shards, buffer=WIDE)
    assert not pairs.fits
    kinds = Counter[str]()
    for i in range(600):
        item = pairs[i]
        own = number_in(item.template)
        kinds["still" if own >= 10 else "clip"] += 1
        for search, positive in zip(item.searches, item.positive, strict=True):
            assert (number_in(search) == own) == bool(positive)
            kinds["pairs"] += 1
            kinds["negative"] += not positive
    assert kinds["still"] / 600 == pytest.approx(0.3, abs=0.08)
    assert 0.2 < kinds["negative"] / kinds["pairs"] < 0.4  # some draws give the same video


def test_weights_of_sources_hold(shards: ShardSet) -> None:
    pairs = pairs_of(shards, buffer=WIDE, weights={"still": 0.0})
    seen = {number_in(crop) for i in range(0, 9000, 30) for crop in (pairs[i].template, *pairs[i].searches)}
    assert seen == set(range(10))
    with pytest.raises(ValueError, match="the weight of every source is 0"):
        pairs_of(shards, weights={"still": 0.0, "clip": 0.0})
    with pytest.raises(ValueError, match="must not be negative"):
        pairs_of(shards, weights={"still": -1.0})
    with pytest.raises(ValueError, match=r"none of the tracks held at a time .* raise --buffer-mb above 0.001"):
        one = pairs_of(shards, buffer=1000, weights={"clip": 0.0})
        [one[i] for i in range(0, 3000, 100)]


def test_every_track_comes_in_each_epoch(shards: ShardSet) -> None:
    window = Window(shards, ShardOrder(shards.index.shards, 3, 0, 1), 6000, lambda _: True)
    seen = Counter[str]()
    for position in range(1, 2 * shards.index.tracks + 1):
        seen[window.at(position)[-1].video] += 1
    assert len(seen) == 24
    assert set(seen.values()) == {2}


@pytest.mark.parametrize("lanes", [2, 3])
def test_lanes_read_shards_of_their_own(shards: ShardSet, lanes: int) -> None:
    names = [shard.name for shard in shards.index.shards]
    orders = [ShardOrder(shards.index.shards, 3, lane, lanes) for lane in range(lanes)]
    counts = [len(range(lane, len(names), lanes)) for lane in range(lanes)]
    first = [[order.shard(at).name for at in range(count)] for order, count in zip(orders, counts, strict=True)]
    assert sorted(name for lane in first for name in lane) == names
    epochs = [[order.shard(at).name for at in range(3 * count)] for order, count in zip(orders, counts, strict=True)]
    assert any(set(read[:count]) != set(read[count : 2 * count]) for read, count in zip(epochs, counts, strict=True))


def test_two_processes_draw_from_tracks_of_their_own(shards: ShardSet) -> None:
    lanes = Lanes(processes=2, workers=1, batch=BATCH)
    pairs = pairs_of(shards, lanes, buffer=6000)
    names = [[shard.name for shard in _first_epoch(shards, lane)] for lane in (0, 1)]
    videos = [
        {number for shard in shards.index.shards if shard.name in own for number in _numbers(shards, shard.name)}
        for own in names
    ]
    for step in range(8):
        for rank in (0, 1):
            first = (step * 2 + rank) * BATCH  # as trainer._From numbers them
            for index in range(first, first + BATCH):
                assert lanes.place(index)[0] == rank
                assert number_in(pairs[index].template) in videos[rank]
    assert not videos[0] & videos[1]


def _first_epoch(shards: ShardSet, lane: int) -> list:
    order = ShardOrder(shards.index.shards, 3, lane, 2)
    return [order.shard(at) for at in range(len(range(lane, len(shards.index.shards), 2)))]


def _numbers(shards: ShardSet, name: str) -> set[int]:
    one = ShardSet(
        shards.place, replace(shards.index, shards=tuple(s for s in shards.index.shards if s.name == name)), ""
    )
    return {int(track.video[1:]) + 10 * (track.source == "still") for track in tracks_of(one)}


def test_lanes_are_told_from_the_index() -> None:
    lanes = Lanes(processes=2, workers=3, batch=4)
    found = [lanes.place(index) for index in range(2 * 3 * 4 * 5)]
    for step in range(15):
        for process in range(2):
            for within in range(4):
                lane, template = found[(step * 2 + process) * 4 + within]
                assert lane == process * 3 + step % 3
                assert template == step // 3 * 4 + within
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("limit", [1, 4000, 12000, 10**6])
@pytest.mark.parametrize("lanes", [1, 3])
def test_what_is_held_depends_on_the_position_alone(shards: ShardSet, limit: int, lanes: int) -> None:
    def window() -> Window:
        return Window(shards, ShardOrder(shards.index.shards, 5, lanes - 1, lanes), limit, lambda t: t.source == "clip")

    steady = window()
    for position in range(0, 120, 7):
        held = [track.key for track in steady.at(position)]
        assert [track.key for track in window().at(position)] == held
        size = sum(one for _, one in steady._held.values())
        assert size == steady._bytes
        assert size <= limit or len(steady._held) == 1
    assert [track.key for track in steady.at(50)] == [track.key for track in window().at(50)]  # and back


def test_going_on_reads_the_buffer_and_a_shard_however_far_it_is(
    shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    plain = ShardSet.open
    monkeypatch.setattr(ShardSet, "open", lambda self, shard: opened.append(shard) or plain(self, shard))
    pairs = pairs_of(shards, buffer=9000, length=10**6)
    pairs[900000]
    assert sum(shard.picture_bytes for shard in opened[:-2]) < 9000
    assert len({shard.name for shard in opened[:-1]}) == len(opened) - 1


def batches(pairs: ShardPairs, step: int, steps: int, workers: int) -> list[Pairs]:
    sampler = _From(step, steps, BATCH)
    return [Pairs(*batch) for batch in DataLoader(pairs, BATCH, sampler=sampler, num_workers=workers, drop_last=True)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_what_it_would_have_seen(shards: ShardSet, workers: int) -> None:
    lanes = Lanes(1, max(workers, 1), BATCH)
    steps = 90  # more than two turns of 128 templates in each worker
    whole = batches(pairs_of(shards, lanes, 9000), 0, steps, workers)
    for stop in (1, 71):
        rest = batches(pairs_of(shards, lanes, 9000), stop, steps, workers)
        assert all(equal(a, b) for a, b in zip(rest, whole[stop:], strict=True))
    alone = pairs_of(shards, lanes, 9000)  # and without the loader
    assert torch.equal(whole[5].searches[1], alone[5 * BATCH + 1].searches)
    other = pairs_of(shards, Lanes(1, 3, BATCH), 9000)
    assert any(not torch.equal(other[i].searches, alone[i].searches) for i in range(2 * BATCH))


def test_memory_is_bounded(tmp_path: Path) -> None:
    data = write_tracks(tmp_path / "data", videos=24, frames=40, stills=0, noise=20)
    big = packed(data, tmp_path / "out", rule(0.2))
    limit = 300_000
    assert big.index.picture_bytes > 4 * limit
    pairs = pairs_of(big, buffer=limit)
    pairs[0]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for index in range(1, 1300, 128):
        pairs[index]
    window = pairs._held[0].window
    assert 0.8 * limit < window._bytes <= limit
    # Beside what is held: a picture that is decoded, records of tar files, and what Python keeps.
    assert tracemalloc.get_traced_memory()[1] - before < 2 * limit
    tracemalloc.stop()


def test_a_copy_holds_nothing_yet(shards: ShardSet) -> None:
    pairs = pairs_of(shards)
    first = pairs[0]
    other = copy.copy(pairs)
    assert other._held == {} and pairs._held
    assert equal(other[0], first)
    state = pairs.__getstate__()
    assert pickle.loads(pickle.dumps({name: state[name] for name in ("_held", "shards", "lanes")}))["_held"] == {}


def test_shape_and_length(shards: ShardSet) -> None:
    pairs = pairs_of(shards, length=5)
    assert len(pairs) == 5
    assert pairs[4].searches.shape == (2, 3, 64, 64)
    for index in (-1, 5):
        with pytest.raises(IndexError):
            pairs[index]


def test_too_few_shards_are_refused(shards: ShardSet) -> None:
    lanes = Lanes(4, len(shards.index.shards), BATCH)
    message = rf"shards.json names {len(shards.index.shards)} shards for {lanes.count} processes x workers: pack with"
    with pytest.raises(ValueError, match=message + " a smaller --shard-mb"):
        pairs_of(shards, lanes)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_pictures_are_replaced_and_counted(tmp_path: Path, workers: int) -> None:
    broken = packed(write_tracks(tmp_path / "data", videos=10, stills=14), tmp_path / "out", rule(SMALL))
    for shard in broken.index.shards[::3]:
        path = tmp_path / "out" / shard.name
        content = path.read_bytes()
        at = content.index(b"\xff\xd8\xff")  # the first picture
        path.write_bytes(content[:at] + b"\0\0\0" + content[at + 3 :])
    pairs = pairs_of(broken, Lanes(1, max(workers, 1), BATCH), WIDE)
    found = batches(pairs, 0, 20, workers)
    assert len(found) == 20
    assert 0 < pairs.skipped < 80


def test_shards_that_changed_under_the_run_are_named(tmp_path: Path) -> None:
    found = packed(write_tracks(tmp_path / "data"), tmp_path / "out")
    index = replace(found.index, shards=(replace(found.index.shards[0], tracks=9),))
    with pytest.raises(ValueError, match=r"shard-000000.tar has 10 tracks, not 9; copy it again"):
        pairs_of(ShardSet(found.place, index, ""), buffer=10**6)[0]
    path = tmp_path / "out" / "shard-000000.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(ValueError, match=r"shard-000000.tar has \d+ bytes, shards.json says"):
        pairs_of(found)[0]
    path.unlink()
    with pytest.raises(ValueError, match=r"cannot read .*shard-000000.tar: No such file"):
        pairs_of(found)[0]


class _Handler(SimpleHTTPRequestHandler):
    busy = 0  # answers that are refused first

    def do_GET(self) -> None:
        if _Handler.busy:
            _Handler.busy -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(shards: ShardSet, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(storage, "_PAUSE_S", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _Handler.busy = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(shards.place))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("end", ["", "/", f"/{INDEX}"])
def test_shards_on_a_web_server_are_read_as_those_of_a_folder(shards: ShardSet, address: str, end: str) -> None:
    place = place_of(address + end)
    remote = open_shards(place)
    assert remote == ShardSet(address, shards.index, shards.sha256)
    far, near = pairs_of(remote), pairs_of(shards)
    assert all(equal(far[i], near[i]) for i in (0, 300))


def test_a_web_server_that_fails_is_asked_again(address: str) -> None:
    _Handler.busy = 3
    assert open_shards(address).index.tracks == 24
    _Handler.busy = 4
    with pytest.raises(ValueError, match=rf"cannot read {address}/shards.json, tried 4 times: HTTP Error 503"):
        open_shards(address)
    with pytest.raises(ValueError, match=rf"cannot read {address}/no/shards.json: 404 File not found"):
        open_shards(f"{address}/no")


def test_other_urls_are_read_by_fsspec(shards: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    assert isinstance(shards.place, Path)
    for path in shards.place.iterdir():
        fsspec.filesystem("memory").pipe_file(f"/train/{path.name}", path.read_bytes())
    remote = open_shards(place_of("memory://train/shards.json"))
    assert remote.index == shards.index
    assert equal(pairs_of(remote)[0], pairs_of(shards)[0])
    with pytest.raises(ValueError, match="cannot read memory://none/shards.json: FileNotFoundError"):
        open_shards("memory://none")
    with pytest.raises(ValueError, match="cannot read nosuch://none/shards.json: ValueError: Protocol not known"):
        open_shards("nosuch://none")

    def missing(*_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "open", missing)
    with pytest.raises(
        ValueError, match=r"s3://none/shards.json: Install s3fs to access S3; pip install 'siamtrack\[cl"
    ):
        open_shards("s3://none")


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"cannot read .*: {__import__('os').strerror(errno.EISDIR)}"):
        open_file(tmp_path, ".")


def test_others_of_a_class_show_another_video(shards: ShardSet) -> None:
    import numpy as np

    pool = TrackPool(tracks_of(shards), {}, 0.3, 1.0)
    rng = np.random.default_rng(0)
    for track in islice((pool.pick(rng) for _ in range(200)), 200):
        other = pool.pick_other(track, rng)
        assert other is None or (other.label == track.label and other.video != track.video)
