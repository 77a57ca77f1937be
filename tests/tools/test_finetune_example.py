import json
import sys
from pathlib import Path

import pytest

from tools import finetune_example
from tools.finetune_example import CLIPS, HELD, WAYS, Steps, drawn_keys, report, strip
from tools.make_finetune_clips import build_scene, write_sequence


def test_keys_are_one_box_of_so_many_in_whole_pixels(tmp_path: Path) -> None:
    boxes = tmp_path / "clip.csv"
    boxes.write_text("frame,x,y,w,h\n" + "".join(f"{n},{n}.6,20.2,30.5,41.7\n" for n in range(60)))
    assert drawn_keys(boxes) == ["0:1,20,30,42", "25:26,20,30,42", "50:51,20,30,42"]


def test_steps_that_were_done_are_not_done_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps = Steps(tmp_path)
    steps.run("timeit", "-n1", "-r1", "pass")
    assert "$ python -m timeit" in capfd.readouterr().err
    again = Steps(tmp_path)
    again.run("timeit", "-n1", "-r1", "pass")
    assert capfd.readouterr().err == ""
    (spent,) = again.spent.values()
    assert again.row("a step", "timeit", "-n1") == f"| a step | {spent[0]:.0f} s | {spent[1]:.0f} s |"
    assert again.row("none", "pip") == "| none | 0 s | 0 s |"
    with pytest.raises(ChildProcessError, match="exit status 2: python -m timeit --wrong"):
        again.run("timeit", "--wrong")
    assert len(json.loads((tmp_path / "steps.json").read_text())) == 1


def test_report_goes_the_way_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []

    def run(self: Steps, *words: str) -> None:
        ran.append(words)
        self.spent[" ".join(words)] = (10.0, 12.0)
        if words[0] == "tools.make_finetune_clips" and "otb" not in words:
            (tmp_path / "clips").mkdir()
            for seed in range(CLIPS):
                (tmp_path / "clips" / f"{seed}.mp4").touch()
                (tmp_path / "clips" / f"{seed}.csv").write_text("frame,x,y,w,h\n0,1,2,3,4\n")
        if words[0] == "benchmarks.development":
            gain = {"finetuned": 0.1, "mean": 0.05}.get(Path(words[words.index("--model") + 1]).name, 0.0)
            figures = {"success_auc": 0.4 + gain, "precision": 0.5, "auroc": None, "sequences": {}}
            Path(words[-1]).write_text(json.dumps({"sets": {"held": figures} if "--sequences" in words else {}}))

    monkeypatch.setattr(Steps, "run", run)
    lines = list(report(tmp_path, None, WAYS[:2], None))
    assert [words[1:3] for words in ran].count(("data", "annotate")) == CLIPS
    assert ("data", "check") in [words[1:3] for words in ran]
    after = ["train", "export", "train", "average", "export"]  # a step that was done is not done again
    assert [words[1] for words in ran if words[0] == "tracker"][-5:] == after
    start = str(Path("weights") / "siamrpn_mobile.safetensors")
    runs = tmp_path / "runs" / "finetuned"
    averaged = ("tracker", "average", start, str(runs / "weights.safetensors"), "--share", "0.5")
    assert (*averaged, "--out", str(runs / "mean.safetensors")) in ran
    assert f"{HELD} other clips" in "\n".join(lines)
    assert "| before: `siamrpn_mobile` | 0.400 / 0.500 | nan |" in lines
    assert "| `configs/finetune.toml` | 0.500 / 0.500 | nan |" in lines
    assert "| `siamtrack average` of that and `siamrpn_mobile` | 0.450 / 0.500 | nan |" in lines
    assert "| `siamtrack train configs/finetune.toml` | 10 s | 12 s |" in lines
    assert lines[-1] == "| `siamtrack export` | 10 s | 12 s |"


def test_strip_shows_frames_with_three_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune_example, "SHOWN", 2)
    write_sequence(build_scene(7), tmp_path, "clip", 3)
    picture = strip(tmp_path, "clip", ("siamrpn_mobile", "siamrpn_mobile"))
    assert picture.shape == (216, 2 * 288, 3)
    assert (picture.max(axis=2).astype(int) - picture.min(axis=2) > 60).any()  # coloured boxes on grey frames


@pytest.mark.skipif(sys.platform == "win32", reason="times of child processes are not known there")
def test_time_of_all_cores_is_counted(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    steps.run("timeit", "-n1", "-r1", "sum(range(10 ** 7))")
    ((wall, cores),) = steps.spent.values()
    assert 0 < cores < 2 * wall + 1
