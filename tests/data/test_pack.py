import errno
import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.packing import contents, packed, rule, run_pack, tracks_of, write_tracks
from tracker.data import pack as pack_module
from tracker.data.pack import pack
from tracker.data.shard_index import INDEX, UNFINISHED, Shard, open_shards
from tracker.data.shards import read_samples
from tracker.data.track_writer import shown_part
from tracker.data.tracks import read_tracks
from tracker.geometry import Box

SMALL = 0.008  # MB: shards of two or three tracks


def test_every_track_is_packed_once_as_it_is(tmp_path: Path) -> None:
    data = write_tracks(tmp_path / "data")
    shards = packed(data, tmp_path / "out", rule(SMALL))
    found = {track.video: track for track in tracks_of(shards)}
    assert len(shards.index.shards) > 2
    assert (shards.index.tracks, shards.index.frames) == (10, 18)
    assert (shards.index.sets, shards.index.classes) == ({"clip": 4, "still": 6}, {"c0": 5, "c1": 5})
    assert len({track.key for track in tracks_of(shards)}) == 10
    for track in read_tracks(data / "tracks.jsonl"):
        copy = found[track.video]
        assert (copy.source, copy.label) == (track.source, track.label)
        assert [frame.box_xywh for frame in copy.frames] == [frame.box_xywh for frame in track.frames]
        assert [frame.jpeg for frame in copy.frames] == [frame.image.read_bytes() for frame in track.frames]


def test_shards_are_webdataset_tars_of_about_the_size_asked(tmp_path: Path) -> None:
    shards = packed(write_tracks(tmp_path / "data"), tmp_path / "out", rule(SMALL))
    for number, shard in enumerate(shards.index.shards):
        path = tmp_path / "out" / shard.name
        assert path.stat().st_size == shard.bytes < SMALL * 1e6 + 20000  # a track, and tar's padding to 10240
        with tarfile.open(path) as tar:
            names = tar.getnames()
        key = names[0].partition(".")[0]
        assert names[:2] == [f"{key}.json", f"{key}.000.jpg"]
        if number < len(shards.index.shards) - 1:
            assert shard.bytes >= SMALL * 1e6
        assert sum(name.endswith(".json") for name in names) == shard.tracks


def test_the_seed_orders_the_tracks_and_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    data = write_tracks(tmp_path / "data")
    orders = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        orders.append([track.video for track in tracks_of(packed(data, tmp_path / name, rule(SMALL, seed=seed)))])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    assert orders[0] != [track.video for track in read_tracks(data / "tracks.jsonl")]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_large_frames_are_cropped_as_import_does(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (400, 300))
    assert cv2.imwrite(str(tmp_path / "a.png"), image)
    row = {"video": "v", "class": "dog", "frames": [{"image": "a.png", "box": [200, 100, 30, 20]}]}
    (tmp_path / "tracks.jsonl").write_text(json.dumps(row))
    ((frame,),) = (track.frames for track in tracks_of(packed(tmp_path, tmp_path / "out", rule(quality=100))))
    part, box = shown_part(image[..., ::-1], Box.from_xywh(200, 100, 30, 20))
    found = frame.read()
    assert found.shape == part.shape < image.shape
    assert np.abs(found.astype(float) - part).mean() < 2
    assert frame.box_xywh == pytest.approx(box.to_xywh(), abs=0.01)


def test_quality_and_every_make_it_smaller(tmp_path: Path) -> None:
    data = write_tracks(tmp_path / "data", frames=5)
    plain, rough = packed(data, tmp_path / "a"), packed(data, tmp_path / "b", rule(quality=30))
    assert rough.index.picture_bytes < 0.6 * plain.index.picture_bytes
    thinned = packed(data, tmp_path / "c", rule(every=2))
    assert sorted(len(track.frames) for track in tracks_of(thinned)) == [1] * 6 + [3] * 4
    png = packed(write_tracks(tmp_path / "png", ending="png"), tmp_path / "d")
    assert all(frame.jpeg[:3] == b"\xff\xd8\xff" for track in tracks_of(png) for frame in track.frames)


def stop_after(data: Path, out: Path, shards: int) -> None:
    """Pack until some shards are whole, and leave the next as a kill would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack_module, "_EVERY_TRACKS", 1)
        for counts in pack(data, out, rule(SMALL)):
            if counts.shards == shards:
                break
    (out / f"shard-{shards:06d}.tar.part").write_bytes(b"half")


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    data = write_tracks(tmp_path / "data")
    packed(data, tmp_path / "whole", rule(SMALL))
    stop_after(data, tmp_path / "out", 2)
    assert not (tmp_path / "out" / INDEX).exists()
    with pytest.raises(ValueError, match="are not finished; give the same siamtrack data pack command again"):
        open_shards(tmp_path / "out")
    first = tmp_path / "out" / "shard-000000.tar"
    before = first.stat().st_mtime_ns
    counts = run_pack(data, tmp_path / "out", rule(SMALL))
    assert (counts.tracks, counts.frames, counts.lines) == (10, 18, 10)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert first.stat().st_mtime_ns == before
    assert run_pack(data, tmp_path / "out", rule(SMALL)).tracks == 10  # done: it stays
    assert first.stat().st_mtime_ns == before


def test_other_shards_are_not_touched(tmp_path: Path) -> None:
    data, out = write_tracks(tmp_path / "data"), tmp_path / "out"
    stop_after(data, out, 1)
    for other in (rule(SMALL, seed=2), rule(SMALL, every=2), rule(SMALL, quality=80), rule(1)):
        with pytest.raises(ValueError, match=rf"{UNFINISHED} is of other tracks or options; choose another --out"):
            run_pack(data, out, other)
    (out / "shard-000000.tar").rename(out / "gone")
    with pytest.raises(ValueError, match=r"shard .*shard-000000.tar is missing; copy it again, or pack again"):
        run_pack(data, out, rule(SMALL))
    (out / "gone").rename(out / "shard-000000.tar")
    run_pack(data, out, rule(SMALL))
    with (data / "tracks.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match=r"shards.json is of other tracks or options"):
        run_pack(write_tracks(tmp_path / "more", stills=7), out, rule(SMALL))
    with pytest.raises(ValueError, match=r"need a folder of their own; choose another --out"):
        run_pack(data, data)


def test_a_full_disk_is_said_and_the_run_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = write_tracks(tmp_path / "data"), tmp_path / "out"
    packed(data, tmp_path / "whole", rule(SMALL))
    left = [1]

    def fsync(_: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pack_module.os, "fsync", fsync)
        with pytest.raises(
            OSError, match=r"shard-000001.tar.part \(No space left on device\); make room, and the same"
        ):
            run_pack(data, out, rule(SMALL))
    assert sorted(contents(out)) == ["shard-000000.tar", UNFINISHED]  # the half one gave its room back
    run_pack(data, out, rule(SMALL))
    assert contents(out) == contents(tmp_path / "whole")


def test_pictures_that_teach_nothing_are_passed_over_and_counted(tmp_path: Path) -> None:
    data = write_tracks(tmp_path / "data")
    (data / "v0_1.jpg").write_bytes(b"no picture")
    (data / "s0_0.jpg").unlink()
    lines = (data / "tracks.jsonl").read_text().splitlines()
    row = json.loads(lines[1])
    row["frames"][0]["box"] = [35, 35, 12, 12]  # a sixth is inside
    row["frames"][1]["box"] = [35, 35, 0, 12]
    lines[1] = json.dumps(row)
    row = json.loads(lines[2])
    row["frames"][0]["box"] = [20, 20, 0.004, 12]  # written as 0
    lines[2] = json.dumps(row)
    (data / "tracks.jsonl").write_text("\n".join(lines))
    counts = run_pack(data, tmp_path / "out")
    assert (counts.tracks, counts.frames, counts.outside) == (9, 18 - 5, 2)
    assert {path.name for path in counts.unreadable} == {"v0_1.jpg", "s0_0.jpg"}
    assert {len(track.frames) for track in tracks_of(open_shards(tmp_path / "out")) if track.video == "v1"} == {1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no tracks in .*tracks.jsonl"),
        ("no track\n", r"tracks.jsonl, line 1: not a track"),
        ("TWICE", r"tracks.jsonl, line 11: the track 'v0:1' of line 1 again; take one of them out"),
        ("BROKEN", r"no track of .*tracks.jsonl has a picture that can be read; siamtrack data check"),
    ],
)
def test_tracks_that_do_not_fit_are_named(tmp_path: Path, text: str, message: str) -> None:
    data = write_tracks(tmp_path / "data")
    index = data / "tracks.jsonl"
    if text == "BROKEN":
        for path in data.glob("*.jpg"):
            path.write_bytes(b"")
    else:
        index.write_text(index.read_text() + index.read_text().splitlines()[0] if text == "TWICE" else text)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            run_pack(data, tmp_path / "out")


def test_a_name_may_come_again_with_other_frames(tmp_path: Path) -> None:
    data = write_tracks(tmp_path / "data")
    index = data / "tracks.jsonl"
    index.write_text(index.read_text().replace('"v1:1"', '"v0:1"').replace('"video": "v1"', '"video": "v0"'))
    assert run_pack(data, tmp_path / "out").tracks == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "its \"format\" is 'other'"),
        ({"version": 2}, "its version is 2, this siamtrack reads 1; pack the data again"),
        ({"shards": [{"name": "a.tar"}]}, "TypeError"),
        ({"name": "../a.tar"}, "'../a.tar' is no name of a file beside it"),
        ({"tracks": 0}, "has a count that is no number above 0"),
        ({"tracks": True}, "has a count that is no number above 0"),
        ({"rule": {}}, "TypeError"),
        ({"crop": None}, "TypeError"),
        (None, "JSONDecodeError"),
        ([], "AttributeError"),
    ],
)
def test_what_is_no_index_is_named(tmp_path: Path, change: object, message: str) -> None:
    packed(write_tracks(tmp_path / "data"), tmp_path / "out")
    index = tmp_path / "out" / INDEX
    row = json.loads(index.read_text())
    if isinstance(change, dict) and set(change) & {"name", "tracks"}:
        row["shards"][0] |= change
    elif isinstance(change, dict):
        row |= change
    index.write_text("{" if change is None else json.dumps(row if change else change))
    with pytest.raises(ValueError, match=r"shards.json is no index of shards \(.*") as caught:
        open_shards(index)
    assert message in str(caught.value)


def test_shards_that_are_not_whole_are_named_when_they_are_opened(tmp_path: Path) -> None:
    shards = packed(write_tracks(tmp_path / "data"), tmp_path / "out")
    path = tmp_path / "out" / shards.index.shards[0].name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    for opened in (lambda: open_shards(tmp_path / "out"), lambda: shards.open(shards.index.shards[0])):
        with pytest.raises(ValueError, match=rf"{path.name} has {len(whole) - 1} bytes, shards.json says {len(whole)}"):
            opened()
    path.unlink()
    with pytest.raises(ValueError, match=f"{path.name} is missing; copy it again"):
        open_shards(tmp_path / "out" / INDEX)
    with pytest.raises(ValueError, match="cannot read .*shards.json: No such file"):
        open_shards(tmp_path)


def tar_of(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


HEAD = {"set": "", "video": "v", "class": "dog", "boxes": [[1, 2, 3, 4]]}
SAMPLE = ("0.json", json.dumps(HEAD).encode())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ReadError"),
        (b"no tar" * 200, "ReadError"),
        (tar_of(("0.jpg", b"x")), "0.jpg where the next track should be"),
        (tar_of(("0.json", b"{")), "JSONDecodeError"),
        (tar_of(("0.json", b"[]")), "TypeError"),
        (tar_of(("0.json", json.dumps(HEAD | {"video": 3}).encode())), "names no set, video or class"),
        (tar_of(("0.json", json.dumps(HEAD | {"boxes": []}).encode())), "0.json has no box"),
        (tar_of(("0.json", json.dumps(HEAD | {"boxes": [[1, 2, 3]]}).encode()), ("0.0.jpg", b"x")), "ValueError"),
        (tar_of(SAMPLE), "0 has 1 boxes and 0 pictures"),
        (tar_of(SAMPLE, ("1.json", b"{}")), "0 has 1 boxes and 0 pictures"),
        (tar_of(SAMPLE, ("0.000.jpg", b"x" * 1000))[:2000], "it ends in 0.000.jpg"),
        (tar_of(SAMPLE, ("0.000.jpg", b"x" * 1000))[:1200], "0 has 1 boxes and 0 pictures"),
    ],
)
def test_what_is_no_shard_is_named(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=r"the shard a.tar is broken \(.*copy it again, or pack again") as caught:
        list(read_samples(io.BytesIO(content), "a.tar"))
    assert message in str(caught.value)


def test_names_of_shards_stay_in_their_folder() -> None:
    assert Shard("shard-000000.tar", 1, 1, 1, 1, "").name == "shard-000000.tar"
