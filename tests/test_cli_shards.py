import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.data.packing import contents, write_tracks
from tests.training.test_run import CONFIG, losses, same_tensors, write_data
from tracker import checkpoint
from tracker.cli import main
from tracker.exported import digest
from tracker.training import run
from tracker.training.run import RunOptions
from tracker.training.trainer import Trainer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tracks(tmp_path / "data")


def pack(data: Path, out: Path, *options: str) -> int:
    return main(["data", "pack", str(data), "--out", str(out), *options])


def last_error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_pack_says_what_it_made(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack(data, tmp_path / "out", "--shard-mb", "0.008") == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"10 tracks and 18 frames in \d+ shards, 0\.\d MB\n", out)
    assert err.splitlines()[-1].startswith("10 of 10 tracks, ")
    assert pack(data, tmp_path / "out", "--shard-mb", "0.008", "--quiet") == 0
    assert capsys.readouterr() == (out, "")


def test_options_reach_the_shards(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--shard-mb", "0.5", "--quality", "80", "--every", "2", "--seed", "7"]
    assert pack(data, tmp_path / "out", *options) == 0
    index = json.loads((tmp_path / "out" / "shards.json").read_text())
    assert index["rule"] == {"shard_mb": 0.5, "quality": 80, "every": 2, "seed": 7}
    assert (index["tracks"], index["frames"]) == (10, 14)


def test_pictures_that_are_passed_over_are_listed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "s1_0.jpg").write_bytes(b"no picture")
    text = (data / "tracks.jsonl").read_text().replace("[14, 14, 12, 12]", "[38, 14, 12, 12]", 1)
    (data / "tracks.jsonl").write_text(text)
    assert pack(data, tmp_path / "out") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "1 frames passed over: their box is less than half in the picture, or of no size",
        f"passed over {data / 's1_0.jpg'}: cannot be read",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard-mb", "0"], "--shard-mb"),
        (["--quality", "101"], "--quality"),
        (["--every", "0"], "--every"),
        (["--seed", "-1"], "--seed"),
        ([], "tracks.jsonl: [Errno 2] No such file"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert pack(tmp_path / "none", tmp_path / "out", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("siamtrack: error: ") and message in line
    assert not (tmp_path / "out").exists()


def check(place: Path, *options: str) -> int:
    return main(["data", "check", str(place), "--quiet", *options])


def test_check_reads_shards_as_it_reads_a_folder(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pack(data, tmp_path / "out", "--shard-mb", "0.008", "--quiet") == 0
    capsys.readouterr()
    assert check(data) == 0
    folder = capsys.readouterr().out
    sheet = tmp_path / "sheet.png"
    for place in (tmp_path / "out", tmp_path / "out" / "shards.json"):
        assert check(place, "--sheet", str(sheet), "--tracks", "4") == 0
        shards = capsys.readouterr().out
        assert shards.replace(f"a picture of the tracks is in {sheet}\n", "") == folder
    assert folder.startswith("10 tracks of 10 videos, 18 frames; 6 stills\n2 sets: still 6, clip 4\n")
    assert sheet.stat().st_size > 1000


def test_check_names_what_is_wrong_with_shards(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert pack(data, out, "--shard-mb", "0.002", "--quiet") == 0
    whole = contents(out)
    names = [shard["name"] for shard in json.loads(whole["shards.json"])["shards"]]
    assert len(names) > 4
    (out / names[0]).write_bytes(whole[names[0]].replace(b"\xff\xd8\xff", b"\xff\xd8\x00", 1))
    (out / names[1]).write_bytes(whole[names[1]][:-1])
    (out / names[2]).unlink()
    index = json.loads(whole["shards.json"])
    index["shards"][3]["tracks"] += 1
    (out / "shards.json").write_text(json.dumps(index))
    capsys.readouterr()
    assert check(out) == 1
    lines = capsys.readouterr().out.splitlines()
    problems = [line for line in lines if line.startswith("shard-")]
    assert [line.partition(": ")[0] for line in problems] == names[:4]
    for line, part in zip(problems, ("sha256 differs", "shards.json says", "cannot read", "tracks, not"), strict=True):
        assert part in line
    assert lines[-1] == "4 problems"


def test_check_names_pictures_in_shards(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert pack(data, out, "--quiet") == 0
    path = out / "shard-000000.tar"
    path.write_bytes(path.read_bytes().replace(b"\xff\xd8\xff", b"\xff\xd8\x00", 1))
    index = json.loads((out / "shards.json").read_text())
    index["shards"][0]["sha256"] = digest(path)  # so it was packed
    (out / "shards.json").write_text(json.dumps(index))
    capsys.readouterr()
    assert check(out) == 1
    text = capsys.readouterr().out
    assert re.search(r"\n\S*shard-000000.tar: 0000000.000.jpg: the picture cannot be decoded\n1 problems\n", text)


def test_pairs_of_shards_are_drawn(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    assert pack(data, tmp_path / "out", "--quiet") == 0
    arguments = ["data", "pairs", str(config), "--data", str(tmp_path / "out"), "--out", str(tmp_path / "a.png")]
    assert main([*arguments, "--count", "2"]) == 0
    assert (tmp_path / "a.png").stat().st_size > 1000


def train(config: Path, data: Path, out: Path, until: int) -> None:
    options = RunOptions(workers=0, threads=torch.get_num_threads())
    for line in run.train(config, data, out, ["train.pairs=12"], options):
        if line.startswith(f"step {until}/"):
            break


def test_training_on_shards_goes_on_as_if_it_had_not_been_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "Trainer", partial(Trainer, save_every=2))
    monkeypatch.setattr(run, "_REPORT_EVERY", 1)
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    data = write_data(tmp_path / "data")
    assert pack(data, tmp_path / "shards", "--quiet") == 0
    shards = tmp_path / "shards" / "shards.json"
    train(config, shards, tmp_path / "whole", until=99)
    train(config, shards, tmp_path / "parts", until=3)  # the last state is that of step 2
    train(config, shards, tmp_path / "parts", until=99)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 6
    assert same_tensors(tmp_path / "parts", tmp_path / "whole")
    facts = checkpoint.load(tmp_path / "whole" / "weights.safetensors").provenance
    assert re.fullmatch(r"2 tracks of shards/shards.json, sha256 [0-9a-f]{64}", facts["data"])
    assert "--data shards/shards.json" in facts["command"]


def test_training_says_that_there_are_too_few_shards(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    assert pack(data, tmp_path / "out", "--quiet") == 0
    index = json.loads((tmp_path / "out" / "shards.json").read_text())
    index["shards"][0]["picture_bytes"] = 10**9
    (tmp_path / "out" / "shards.json").write_text(json.dumps(index))
    threads = ["--threads", str(torch.get_num_threads())]  # they are the process's, and other tests come after
    arguments = ["train", str(config), "--data", str(tmp_path / "out"), "--out", str(tmp_path / "run"), *threads]
    assert main([*arguments, "--workers", "2"]) == 2
    assert "names 1 shards for 2 processes x workers: pack with a smaller --shard-mb" in last_error(capsys)
    asked = []

    def opened(*arguments: object) -> None:
        asked.append(arguments[1:])
        raise ValueError("enough")

    monkeypatch.setattr(run, "open_pairs", opened)
    assert main([*arguments, "--buffer-mb", "2000", "--workers", "3"]) == 2
    assert asked == [(tmp_path / "out", 5, 3, 2000)]
