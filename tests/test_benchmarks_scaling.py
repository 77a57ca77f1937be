import pytest

from benchmarks import scaling


def test_runs_take_turns_and_the_first_round_warms_up() -> None:
    order: list[tuple[str, int]] = []

    def run(name: str):  # noqa: ANN202
        return lambda at: order.append((name, at)) or [float(at)]

    times = scaling.take_turns({"a": run("a"), "b": run("b")}, rounds=3)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert times == {"a": [1.0, 2.0], "b": [1.0, 2.0]}


def test_table_counts_in_times_of_the_first_row() -> None:
    *_, first, second, _ = scaling.table("frame", {"small": [0.002] * 3, "large": [0.003] * 3})
    assert first == "| small | 2.00 | 2.00 | 1.00 |"
    assert second == "| large | 3.00 | 3.00 | 1.50 |"


def test_report_has_a_row_for_each_size_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "SIZES_WH", ((320, 240), (640, 480)))
    monkeypatch.setattr(scaling, "TARGETS", (1, 2))
    lines = list(scaling.report("mobilenetv3_online", "onnx", 2))
    names = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert names == ["frame", "320x240", "640x480", "targets", "1", "2"]
