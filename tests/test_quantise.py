import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from tests.test_export import assert_alike, engine_of, fresh
from tests.videos import paint
from tracker import quantise as quantise_module
from tracker.export import export
from tracker.exported import read_card
from tracker.geometry import Box
from tracker.openvino_files import to_openvino
from tracker.quantise import quantise


def write_tracks(folder: Path, videos: int) -> Path:
    folder.mkdir()
    rows = []
    for at in range(videos):
        frames = []
        for step in (0, 1):
            box = Box(120 + 4 * at + 3 * step, 100, 40, 50)
            cv2.imwrite(str(folder / f"{at}_{step}.png"), paint(box)[..., ::-1])
            frames.append({"image": f"{at}_{step}.png", "box": list(box.to_xywh())})
        rows.append({"video": f"v{at}", "track": "1", "class": "square", "frames": frames})
    (folder / "tracks.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def test_backbone_in_8_bits_sees_almost_the_same_and_is_smaller(tmp_path: Path) -> None:
    network, text = fresh("siamfc_alexnet")
    export(network, text, tmp_path / "whole", {"from": "a test"}, {"verify_threshold": 0.5})
    quantise(tmp_path / "whole", write_tracks(tmp_path / "data", 16), tmp_path / "small")
    whole, small = (read_card(tmp_path / name) for name in ("whole", "small"))
    assert (whole.precision, small.precision) == ("float32", "int8")
    assert small.provenance.items() > whole.provenance.items() and "tracks.jsonl" in small.provenance["ranges"]
    assert small.metrics == whole.metrics == {"verify_threshold": 0.5}
    sizes = [(tmp_path / name / "backbone.onnx").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < 0.36 * sizes[0]  # 256 * 48 * 25 of 2.3 million numbers stay as they are: .13 + .87 / 4
    assert small.sha256["head"] == whole.sha256["head"]
    pictures = [paint(Box(128, 128, 60, 60))[:240, :240]]
    pictures = [cv2.resize(picture, (255, 255)) for picture in pictures]
    wanted = engine_of("onnx", tmp_path / "whole", whole).see(pictures, ()).maps
    files = to_openvino(tmp_path / "small", tmp_path / "files", half=False, examples={})
    for engine, name, card in (("onnx", "small", small), ("openvino", "small", small), ("openvino", "files", files)):
        runtime = engine_of(engine, tmp_path / name, card)
        found = runtime.see(pictures, ()).maps
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert 1e-4 < error < 0.1  # it is quantised, and little is lost
        assert runtime.engine.precision.startswith("int8")


def test_one_extreme_crop_does_not_set_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, text = fresh("mobilenetv3_online")
    export(network, text, tmp_path / "whole", {}, {})
    data = write_tracks(tmp_path / "data", 16)
    plain = [{"images": np.full((1, 65, 65, 3), 120, np.uint8)}] * 15
    extreme = np.random.default_rng(0).choice([0, 255], (1, 65, 65, 3)).astype(np.uint8)
    largest = []
    for name, crops in (("plain", plain), ("mixed", [*plain, {"images": extreme}]), ("wild", [{"images": extreme}])):
        monkeypatch.setattr(quantise_module, "_watch", lambda *_, crops=crops: crops)
        quantise(tmp_path / "whole", data, tmp_path / name)
        largest.append(max(_input_scales(tmp_path / name / "backbone.onnx")))
    assert largest[0] < largest[1] < 0.5 * largest[2]


def test_first_residual_block_light_network_and_refiners_stay_in_float(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, text = fresh("siamrpn_resnet18")
    export(network, text, tmp_path / "whole", {}, {})
    crop = np.random.default_rng(0).integers(0, 256, (1, 65, 65, 3), dtype=np.uint8)
    monkeypatch.setattr(quantise_module, "_watch", lambda *_: [{"images": crop}])
    quantise(tmp_path / "whole", write_tracks(tmp_path / "data", 16), tmp_path / "small")
    graph = onnx.load(tmp_path / "small" / "backbone.onnx").graph
    maker = {name: node.op_type for node in graph.node for name in node.output}
    in_float = {
        node.input[1]: maker.get(node.input[1]) != "DequantizeLinear" for node in graph.node if node.op_type == "Conv"
    }
    # benchmarks/experiments.md, "How far to search"; the light network beside it bears no 8 bits at all, and what the
    # refiners sample keeps them too.
    stay = (".0.layer1.0.conv", ".members.1.", ".refiner.")
    assert len(in_float) == 15 + 37 + 4
    assert all(value == any(part in name for part in stay) for name, value in in_float.items())


def _input_scales(path: Path) -> list[float]:
    """Return the steps of all tensors that are quantised while the graph runs."""
    graph = onnx.load(path).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return [float(values[node.input[1]].max()) for node in graph.node if node.op_type == "QuantizeLinear"]


def test_what_is_not_in_8_bits_may_be_stored_in_half(tmp_path: Path) -> None:
    network, text = fresh("siamrpn_mobile")
    data = write_tracks(tmp_path / "data", 16)
    for name, half in (("whole", False), ("half", True)):
        export(network, text, tmp_path / name, {}, {}, half)
        quantise(tmp_path / name, data, tmp_path / f"{name}8")
    sizes = {
        part: [(tmp_path / name / f"{part}.onnx").stat().st_size for name in ("whole8", "half8")]
        for part in ("backbone", "embedding")
    }
    assert sizes["embedding"][1] < 0.6 * sizes["embedding"][0]
    assert sizes["backbone"][1] < 1.05 * sizes["backbone"][0]  # its convolutions are in 8 bits in both
    pictures = [cv2.resize(paint(Box(128, 128, 60, 60))[:240, :240], (257, 257))]
    whole, half_too = (
        engine_of("onnx", tmp_path / name, read_card(tmp_path / name)).see(pictures, ()) for name in ("whole8", "half8")
    )
    assert_alike(half_too, whole, 0.1)


def test_too_few_tracks_are_refused(tmp_path: Path) -> None:
    network, text = fresh("mobilenetv3_online")
    export(network, text, tmp_path / "whole", {}, {})
    with pytest.raises(ValueError, match="needs tracks of 16 videos or more to see ranges on, got 3"):
        quantise(tmp_path / "whole", write_tracks(tmp_path / "data", 3), tmp_path / "small")


def test_graphs_that_are_read_are_not_written_over(tmp_path: Path) -> None:
    network, text = fresh("mobilenetv3_online")
    export(network, text, tmp_path / "whole", {}, {})
    with pytest.raises(ValueError, match="holds the graphs that are read: give another folder"):
        quantise(tmp_path / "whole", write_tracks(tmp_path / "data", 16), tmp_path / "whole")
    assert read_card(tmp_path / "whole").precision == "float32"
