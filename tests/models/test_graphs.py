"""The graphs' answers are held by tests/test_export.py, in every runtime; here is what the loop takes for granted."""

import torch

from tracker import runtime
from tracker.models import backbones
from tracker.network_builder import load_network


def test_loop_and_networks_agree_on_the_fine_stride() -> None:
    assert runtime.FINE_STRIDE == backbones.FINE_STRIDE


def test_pixels_in_rows_are_seen_as_images_are() -> None:
    network, _ = load_network("mobilenetv3_online", "cpu", (), torch.float32)
    images = torch.randint(0, 256, (2, 65, 81, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        in_rows, as_images = network.features_of_pixels(images), network.features(images.permute(0, 3, 1, 2))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(in_rows, as_images, strict=True))
