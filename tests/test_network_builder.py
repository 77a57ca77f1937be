"""What a weight file and settings make together; what the networks see is tested with their parts."""

import numpy as np
import pytest
import torch

from tests.videos import paint
from tracker import load_tracker
from tracker.geometry import Box
from tracker.network_builder import load_network


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_without_the_filter_the_embedding_head_reads_what_it_did(runtime: str) -> None:
    tracker = load_tracker("siamrpn_mobile", runtime=runtime, overrides=["online=false"], threads=1)
    tracker.init(paint(Box(160, 120, 44, 52)), Box(160, 120, 44, 52))
    found = [tracker.update(paint(Box(160 + step, 120, 44, 52))) for step in (2, 4, 6)]
    assert abs(found[-1].box.cx - 166) < 4 and found[-1].score > 0.5


@torch.inference_mode()
def test_the_filter_or_its_absence_changes_no_features() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 145, 145), dtype=np.uint8))
    networks = [load_network("siamrpn_mobile", "cpu", overrides)[0] for overrides in ([], ["online=false"])]
    assert networks[0].fine_weight == networks[1].fine_weight > 0
    seen = [network.features(images) for network in networks]
    assert torch.equal(seen[0].deep, seen[1].deep) and torch.equal(seen[0].fine, seen[1].fine)


@pytest.mark.parametrize(
    "override", ["model.backbone=resnet18", "model.refiner=window", "online.fine_weight=0.0", "model.head=rpn"]
)
def test_settings_of_another_network_than_the_weights_are_named(override: str) -> None:
    with pytest.raises(ValueError, match=r"siamrpn_mobile.safetensors holds the weights of another network .*: \S"):
        load_network("siamrpn_mobile", "cpu", [override])
