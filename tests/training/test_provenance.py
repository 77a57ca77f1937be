from pathlib import Path

import pytest
import torch

from tracker.training import provenance


def test_weight_outside_the_range_of_half_precision_is_kept() -> None:
    for value in (torch.tensor([1.0, 7e4]), torch.tensor([70000, 1])):
        assert provenance.shrunk(value) is value
    assert provenance.shrunk(torch.tensor([0.1])).dtype == torch.float16


def test_code_without_a_repository_has_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tracker" / "training"
    package.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    assert provenance.revision() == "unknown"
    monkeypatch.setenv("PATH", "")
    assert provenance.revision() == "unknown"
