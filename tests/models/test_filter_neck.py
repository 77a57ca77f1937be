import pytest
import torch

from tracker.models.filter_neck import FilterNeck


def test_each_sample_is_narrowed_cell_by_cell_and_has_norm_1() -> None:
    torch.manual_seed(0)
    neck, maps = FilterNeck(12, 5), torch.randn(3, 12, 4, 6)
    with torch.inference_mode():
        found = neck(maps)
        wanted = torch.stack([neck.project.weight[:, :, 0, 0] @ sample.flatten(1) for sample in maps])
    wanted = wanted / wanted.flatten(1).norm(dim=1).view(3, 1, 1)
    assert found.shape == (3, 5, 4, 6)
    assert torch.allclose(found.flatten(2), wanted, atol=1e-6)


def test_map_without_energy_stays_0() -> None:
    with torch.inference_mode():
        assert not FilterNeck(12, 5)(torch.zeros(1, 12, 4, 4)).any()


@pytest.mark.parametrize("narrowed", [5, 12])
def test_fresh_neck_keeps_directions_apart(narrowed: int) -> None:
    weight = FilterNeck(12, narrowed).project.weight.detach().flatten(1)
    assert torch.allclose(weight @ weight.T, torch.eye(narrowed), atol=1e-5)
