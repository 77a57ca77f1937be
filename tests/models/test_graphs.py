"""The graphs' answers are held by tests/test_export.py, in every runtime; here is what the loop takes for granted."""

from tracker import runtime
from tracker.models import backbones


def test_loop_and_networks_agree_on_the_fine_stride() -> None:
    assert runtime.FINE_STRIDE == backbones.FINE_STRIDE
