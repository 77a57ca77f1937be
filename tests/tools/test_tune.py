import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("optuna")

import optuna

from tests.drawn_sequences import moving, write_otb
from tools import tune
from tools.tuning import report
from tools.tuning.objective import make_shares, objective, part, set_means
from tools.tuning.ranges import Settings, as_overrides, check_ranges, read_ranges, shipped_settings
from tools.tuning.study import Evaluate, Follow, Plan, open_study, run_trials, scores_of
from tools.tuning.videos import FrameStore, Group, code_print, make_groups, store_frames
from tracker.config import parse
from tracker.data.otb import read_otb
from tracker.evaluation import read_frame

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = parse((CONFIGS / "siamrpn_mobile.toml").read_text(encoding="utf-8"))
GROUPS = tuple(Group(f"{'ab'[i % 2]}/{i}", "ab"[i % 2], {"whole": (), "starts": ()}) for i in range(16))
IDENTITY = {"model": "m 1", "data": "d 1"}
K = "rpn.penalty_k"  # 0.2 in the configuration


def hill() -> Evaluate:
    """Score best at penalty_k = 0.6, a little else in each group."""

    def evaluate(settings: Settings) -> Follow:
        def follow(group: Group) -> dict[str, tuple[float, float]]:
            value = 0.8 - (float(settings[K]) - 0.6) ** 2 - 0.01 * int(group.name[2:])
            return {"whole": (value, value / 2), "starts": (value - 0.1, value / 2)}

        return follow

    return evaluate


def ridge() -> Evaluate:
    """Score best at the model's own 0.2, and nowhere else."""

    def evaluate(settings: Settings) -> Follow:
        return lambda group: dict.fromkeys(group.videos, (0.8 - abs(float(settings[K]) - 0.2), 0.5))

    return evaluate


def plan(folder: Path, groups: Sequence[Group] = GROUPS[:4], blind: int = 4, deadline: float = 1e12) -> Plan:
    ranges = read_ranges([f"{K}=0:1"], CONFIG)
    shares = make_shares(groups, {})
    shipped = shipped_settings(ranges, CONFIG)
    return Plan(folder / "studies.sqlite", "s", groups, shares, ranges, shipped, 3, blind, deadline)


def test_a_set_counts_once_whatever_its_size_and_weights_count_it_more() -> None:
    groups = [Group("a/1", "a", {"whole": ()}), Group("b/1", "b", {"whole": ()}), Group("b/2", "b", {"whole": ()})]
    scores = {"a/1": {"whole": (0.6, 0.0)}, "b/1": {"whole": (0.2, 0.1)}, "b/2": {"whole": (0.4, 0.3)}}
    even, twice = make_shares(groups, {}), make_shares(groups, {"a": 2.0, "whole": 5.0})
    assert objective(even, scores) == pytest.approx((0.6 + (0.2 + 0.4) / 2) / 2)
    assert objective(twice, scores) == pytest.approx((2 * 0.6 + (0.2 + 0.4) / 2) / 3)
    assert sum(part(even, scores, group.name) for group in groups) == pytest.approx(objective(even, scores))
    means = set_means(groups, scores, 1)["whole"]
    assert means["a"] == 0.0 and means["b"] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="nothing counts"):
        make_shares(groups, {"whole": 0.0})


def test_kinds_count_alike_however_many_groups_have_them() -> None:
    groups = [Group("a/1", "a", {"whole": (), "starts": ()}), Group("a/2", "a", {"whole": ()})]
    shares = make_shares(groups, {})
    assert shares == {"a/1": {"whole": 0.25, "starts": 0.5}, "a/2": {"whole": 0.25}}


def test_ranges_are_read_as_written() -> None:
    words = [
        "rpn.hold",
        "online.ridge=0.001:0.1:log",
        "rpn.penalty_k=0:0.4:0.05",
        "online.channels=16,32",
        "rpn.calibration=0,0.7,1",
    ]
    hold, ridge_, k, channels, calibration = read_ranges(words, CONFIG)
    assert (hold.low, hold.high, hold.step, hold.log) == (0.0, 0.35, None, False)
    assert (ridge_.low, ridge_.log) == (0.001, True) and k.step == 0.05
    assert channels.choices == (16, 32) and calibration.choices == (0.0, 0.7, 1.0)
    (whole,) = read_ranges(["online.first_frames=2:20"], CONFIG)
    trial = optuna.trial.FixedTrial({"online.first_frames": 10, K: 0.05 * 3})
    assert whole.suggest(trial) == 10
    assert k.suggest(trial) == 0.15  # 0.15000000000000002 as drawn
    assert as_overrides({"a.b": 0.5, "a.c": "x", "a.d": False}) == ("a.b=0.5", 'a.c="x"', "a.d=false")


def test_without_ranges_those_of_the_models_tables_are_searched() -> None:
    names = [one.name for one in read_ranges((), CONFIG)]
    assert "rpn.window_influence" in names and "online.gate" in names
    assert not any(name.startswith("scale_search") for name in names)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_table_holds_every_models_own_settings(config: Path) -> None:
    read_ranges((), parse(config.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("rpn.penalty=0:1", "no setting 'rpn.penalty' to search; it has lost.enter"),
        ("scale_search.scale_step=1:2", "no setting 'scale_search.scale_step'"),
        ("train.seed=1:2", "no setting 'train.seed'"),
        ("lost.enter", "lost.enter has no range of its own"),
        ("rpn.hold=0.3:0.5", "the range rpn.hold=0.3:0.5 lacks the model's own value, 0.2"),
        ("rpn.hold=0:1:0.3", "the step must lead from one end to the other"),
        ("rpn.hold=0:0.9:0.3", "lacks the model's own value"),
        ("rpn.hold=0.5:0.1", "the first number must be below the second"),
        ("rpn.hold=0:1:log", "one of logarithms starts above 0"),
        ("rpn.hold=low:high", "is no range: write LOW:HIGH"),
        ("rpn.hold=0:1:0.1:log", "is no range: write LOW:HIGH"),
        ("rpn.hold=0.2,high", "is no range: write LOW:HIGH"),
        ("rpn.hold=0.2,true", "True is no float"),
        ("online.channels=16.5:32", "the setting has no fractions"),
    ],
)
def test_wrong_ranges_are_named(word: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_ranges([word], CONFIG)


def test_a_setting_has_one_range() -> None:
    with pytest.raises(ValueError, match=r"rpn\.hold has two ranges"):
        read_ranges(["rpn.hold", "rpn.hold=0:0.5"], CONFIG)


def test_what_the_tracker_refuses_is_named_with_its_range() -> None:
    def make(overrides: tuple[str, ...]) -> None:
        if overrides == ("rpn.hold=0.5",):
            raise ValueError("too high")

    with pytest.raises(ValueError, match=r"the range rpn\.hold=0:0\.5 is refused at 0\.5: too high"):
        check_ranges(read_ranges([K, "rpn.hold=0:0.5"], CONFIG), make)


def test_the_shipped_settings_come_first_and_a_better_trial_is_found(tmp_path: Path) -> None:
    the = plan(tmp_path)
    study = open_study(the, IDENTITY)
    run_trials(the, hill, 9, workers=1)
    trials = study.get_trials()
    assert trials[0].params == {K: 0.2}
    assert len(scores_of(trials[0])) == 4
    assert abs(study.best_params[K] - 0.6) < 0.15
    found = report.judge(study, the, folds=2)
    assert found.shipped.number == 0 and found.best.number == study.best_trial.number
    gain = (0.2 - 0.6) ** 2 - (report.rounded(found.best.params[K]) - 0.6) ** 2
    assert found.gain.mean == pytest.approx(gain)  # every group gains as much
    assert found.every.gain.mean == pytest.approx(gain) and found.every.gain.low == pytest.approx(gain)
    assert found.every.chosen == {found.best.number: 1.0}
    assert found.blind is not None and found.blind.trials == 4


def test_a_resumed_study_is_that_of_one_run(tmp_path: Path) -> None:
    once, twice = plan(tmp_path / "a"), plan(tmp_path / "b")
    for the, counts in ((once, (6,)), (twice, (2, 4))):
        for count in counts:
            open_study(the, IDENTITY)
            run_trials(the, hill, count, workers=1)
    values = [[trial.params for trial in open_study(the, IDENTITY).get_trials()] for the in (once, twice)]
    assert values[0] == values[1] and len(values[0]) == 6


def test_processes_share_a_study(tmp_path: Path) -> None:
    the = plan(tmp_path)
    study = open_study(the, IDENTITY)
    run_trials(the, hill, 4, workers=2)
    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert len({trial.params[K] for trial in trials}) == 4


def test_a_trial_that_is_surely_worse_ends_early_but_not_a_blind_one(tmp_path: Path) -> None:
    the = plan(tmp_path, GROUPS, blind=2)
    study = open_study(the, IDENTITY)
    run_trials(the, ridge, 4, workers=1)
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert [len(scores_of(trial)) for trial in study.get_trials()] == [16, 16, 14, 14]
    found = report.judge(study, the, folds=4)
    assert found.pruned == 2 and found.best.number == 0
    assert report.changes(found.best, the.shipped) == {} and report.as_words({}) == ""
    text = "\n".join(report.lines(found, the))
    assert "2 complete trials and 2 that ended early" in text
    assert "keep the shipped settings" in text


def test_no_trial_begins_after_the_deadline(tmp_path: Path) -> None:
    the = plan(tmp_path, deadline=0.0)
    study = open_study(the, IDENTITY)
    run_trials(the, hill, 3, workers=1)
    with pytest.raises(ValueError, match="has not measured the shipped settings yet"):
        report.judge(study, the, folds=4)


def test_a_study_of_something_else_is_refused(tmp_path: Path) -> None:
    the = plan(tmp_path)
    open_study(the, IDENTITY)
    with pytest.raises(ValueError, match=r"the study 's' in .* has another model: m 1, not m 2; give what it began"):
        open_study(the, IDENTITY | {"model": "m 2"})
    with pytest.raises(ValueError, match="another data: d 1, not d 2"):
        open_study(the, IDENTITY | {"data": "d 2"})
    open_study(the, IDENTITY)


def test_wrong_input_in_a_trial_names_trial_and_group(tmp_path: Path) -> None:
    def broken() -> Evaluate:
        def follow(group: Group) -> dict[str, tuple[float, float]]:
            raise ValueError("no such picture")

        return lambda settings: follow

    the = plan(tmp_path)
    study = open_study(the, IDENTITY)
    with pytest.raises(ValueError, match="trial 0, a/0: no such picture"):
        run_trials(the, broken, 1, workers=1)
    assert open_study(the, IDENTITY).get_trials()[-1].params == {}  # the shipped settings wait again
    run_trials(the, hill, 1, workers=1)
    assert study.get_trials()[-1].params == {K: 0.2}


def test_luck_on_one_sequence_is_worth_nothing_on_the_others() -> None:
    sets = np.array(["a"] * 10 + ["b"] * 10)
    shipped = np.full(20, 0.5)
    lucky = [shipped + 0.2 * (np.arange(20) == i) - 0.004 for i in range(20)]  # each is better in all, by one sequence
    parts = dict(enumerate([shipped, *lucky]))
    best = report.difference(lucky[0] - shipped, sets, seed=0)
    assert best.mean == pytest.approx(0.2 - 20 * 0.004) and (best.better, best.worse) == (1, 19)
    assert best.low < 0 < best.high
    worth = report.unseen(parts, 0, sets, folds=5, seed=0)
    assert worth.gain.mean < 0 and worth.trials == 21
    assert sum(worth.chosen.values()) == pytest.approx(1)


def test_a_real_gain_is_found_on_unseen_sequences() -> None:
    sets = np.array(["a"] * 3 + ["b"] * 9)  # fewer in a than folds
    rng = np.random.default_rng(0)
    shipped = rng.uniform(0.3, 0.7, 12)
    better = shipped + 0.05 + rng.normal(0, 0.02, 12)
    worth = report.unseen({0: shipped, 7: better}, 0, sets, folds=5, seed=0)
    assert worth.chosen == {7: 1.0}
    assert worth.gain.mean == pytest.approx((better - shipped).sum()) and worth.gain.low > 0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write the three sets."""
    for set_name, name, base in (
        ("OTB", "Car", 1),
        ("OTB", "Dog", 1),
        ("UAV123_10fps", "boat", 0),
        ("clips", "cup", 1),
    ):
        write_otb(tmp_path / "data" / set_name, name, moving(14, step=1), index_base=base)
    return tmp_path / "data"


def test_groups_hold_whole_sequence_and_starts_and_mix_the_sets(data: Path) -> None:
    sets = {name: read_otb(data / name, base) for name, base in (("OTB", 1), ("UAV123_10fps", 0))}
    groups = make_groups(sets, ["whole", "starts"], None)
    assert [group.name for group in groups] == ["OTB/Car", "UAV123_10fps/boat", "OTB/Dog"]
    assert [[len(v) for v in group.videos.values()] for group in groups] == [[1, 1]] * 3
    assert [group.frames for group in groups] == [28] * 3
    assert make_groups(sets, ["starts"], 5)[0].frames == 5


def test_stored_pictures_are_those_of_the_files(data: Path, tmp_path: Path) -> None:
    groups = make_groups({"OTB": read_otb(data / "OTB", 1)}, ["whole"], None)
    file = store_frames(groups, tmp_path, limit_gb=1.0)
    assert file.stat().st_size == 28 * 48 * 64 * 3
    before = file.stat().st_mtime_ns
    assert store_frames(groups, tmp_path, limit_gb=1.0) == file and file.stat().st_mtime_ns == before
    store = FrameStore(file)
    for path in groups[1].videos["whole"][0].image_paths:
        assert (store.read(path) == read_frame(path)).all()
    with pytest.raises(ValueError, match=r"28 decoded pictures take 0\.0 GB, more than the limit of 1e-05: allow more"):
        store_frames(groups, tmp_path / "other", limit_gb=1e-5)


def tuned(data: Path, *options: str) -> int:
    here = ["--data", str(data), "--model", "siamrpn_mobile", "--runtime", "onnx", "--folder", str(data / "tune")]
    return tune.main([*here, "--frames", "4", *options])


def test_the_command_reports_and_goes_on(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "new" / "out.json"
    options = ["--range", f"{K}=0:0.4:0.1", "--range", "online.gate", "--weight", "clips=2", "--json", str(out)]
    written = data / "tune" / "out.md"  # in a folder that the command makes
    assert tuned(data, *options, "--trials", "2", "--write-overrides", "--out", str(written)) == 0
    text = capsys.readouterr().out
    assert written.read_text() == text
    assert "2 complete trials and 0 that ended early" in text
    assert "| shipped | 0." in text and "`rpn.penalty_k` | 0:0.4:0.1 | 0.2" in text
    figures = json.loads(out.read_text())
    assert {trial["number"] for trial in figures["trials"]} == {0, 1}
    assert figures["identity"]["weights"] == "clips=2" and figures["identity"]["code"] == code_print()
    assert set(figures["trials"][0]["success_auc"]) == {"whole", "starts"}
    last = text.strip().splitlines()[-1]
    best = next(trial for trial in figures["trials"] if trial["number"] == figures["best"])
    assert last == (report.as_words(best["settings"]) if figures["best"] else "(the shipped settings are the best)")

    assert tuned(data, *options, "--trials", "1", "--store-gb", "0") == 0  # one more, without stored pictures
    assert len(json.loads(out.read_text())["trials"]) == 3
    assert tuned(data, *options, "--trials", "0") == 0
    capsys.readouterr()
    assert tuned(data, "--range", K, "--trials", "0") == 2
    assert "has another ranges: rpn.penalty_k=0:0.4:0.1 online.gate=0.1:0.7, not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--range", "rpn.speed=0:1"], "the model has no setting 'rpn.speed' to search"),
        (["--range", "crop.template_size=113,129"], "is refused at 113: the graphs in"),
        (["--set", "rpn.speed=1"], "unknown setting rpn.speed"),
        (["--weight", "whole=0", "--weight", "starts=0"], "nothing counts"),
        (["--store-gb", "1e-6"], "decoded pictures take"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_tried(
    data: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuned(data, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error and error.count("\n") == 1


def test_studies_that_cannot_be_used_are_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = data / "tune" / "studies.sqlite"
    file.parent.mkdir()
    file.write_text("no studies" * 1000)
    assert tuned(data) == 2
    says = f"error: cannot use the studies in {file}: file is not a database; give another --folder\n"
    assert capsys.readouterr().err == says


def test_stopped_command_says_that_it_goes_on(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.tuning.study.run_trials", stop)
    assert tuned(data, "--store-gb", "0") == 130
    assert capsys.readouterr().err == "stopped; the same command goes on where it stopped\n"


def test_what_is_missing_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuned(tmp_path / "nothing") == 2
    assert "error: no OTB/<sequence>/groundtruth_rect.txt below" in capsys.readouterr().err
    monkeypatch.setattr(tune, "find_spec", lambda name: None)
    assert tuned(data) == 2
    assert capsys.readouterr().err == "error: Optuna is not installed: pip install 'siamtrack[tune]'\n"


@pytest.mark.parametrize("word", ["cars=1", "OTB=-1", "whole", "starts=much"])
def test_wrong_weights_are_refused(data: Path, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tuned(data, "--weight", word)
    assert "--weight" in capsys.readouterr().err
