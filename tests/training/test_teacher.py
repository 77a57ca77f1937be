import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tolerances import assert_close
from tracker.data.pairs import Pairs
from tracker.models.backbones import Features
from tracker.models.heads import SiamFCHead
from tracker.models.siamese import SiameseNetwork
from tracker.training.objectives import siamfc_objective
from tracker.training.teacher import TeacherTraining, resampled_cells, standardised, whole_cells

SEARCH = 71  # 8 cells of the student; the teacher sees 81 px, 6 cells


class Student(nn.Module):
    """Embed patches of 15x15 pixels, one every 8, without padding, each alone."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.far = nn.Conv2d(3, 16, 15, 8)
        self.near = nn.Conv2d(16, 12, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, 12, (H - 15) / 8 + 1, (W - 15) / 8 + 1)."""
        deep: Tensor = self.near(self.far(images).relu())
        return deep

    def features(self, images: Tensor) -> Features:
        """Return those twice."""
        return Features(*[self(images)] * 2)


class Teacher(nn.Module):
    """Embed patches of 9x9 pixels, one every 16, with padding, each alone."""

    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv2d(3, 20, 9, 16, padding=4)
        self.fine = nn.Conv2d(3, 8, 9, 8, padding=4)

    def features(self, images: Tensor) -> Features:
        """Return maps of (H - 1) / 8 + 1 and (H - 1) / 16 + 1 cells."""
        return Features(self.fine(images), self.deep(images))


@pytest.fixture
def student() -> SiameseNetwork:
    torch.manual_seed(0)
    network = SiameseNetwork(Student(), SiamFCHead())
    network.regressor = nn.Conv2d(12, 28, 1)
    return network


@pytest.fixture
def teacher() -> SiameseNetwork:
    torch.manual_seed(1)
    return SiameseNetwork(Teacher(), None, fine_weight=1.0).eval()


@pytest.fixture
def pairs() -> Pairs:
    generator = torch.Generator().manual_seed(2)
    template = torch.randint(0, 256, (3, 3, 31, 31), generator=generator, dtype=torch.uint8)
    # Blocks of one colour, larger than a cell: there is something to be alike in.
    searches = torch.randint(0, 256, (3, 2, 3, 5, 5), generator=generator, dtype=torch.uint8)
    searches = searches.repeat_interleave(15, 3).repeat_interleave(15, 4)[..., :SEARCH, :SEARCH]
    boxes = torch.tensor([0.0, 0.0, 16.0, 16.0])
    return Pairs(template, searches, boxes.expand(3, 4), boxes.expand(3, 2, 4), torch.ones(3, 2, dtype=torch.bool))


def test_channels_count_alike_whatever_their_level_and_energy() -> None:
    maps = torch.randn(4, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    stretched = maps * torch.tensor([1, 9, 0.1, 3, 50]).view(1, 5, 1, 1) + torch.arange(5.0).view(1, 5, 1, 1)
    found = standardised(stretched).double().numpy()
    for channel in range(5):
        values = stretched[:, channel].double().numpy()
        assert_close(found[:, channel], (values - np.mean(values)) / np.std(values), "float32")
    assert not standardised(torch.ones(2, 3, 4, 4)).any()  # a channel that says nothing


@pytest.mark.parametrize(("size", "whole"), [(193, 193), (191, 193), (207, 209), (255, 257), (195, 209)])
def test_pictures_grow_on_all_sides_alike(size: int, whole: int) -> None:
    picture = torch.arange(size, dtype=torch.uint8).expand(1, 3, size, size)
    grown = whole_cells(picture, 16)
    rim = (whole - size) // 2
    assert grown.shape == (1, 3, whole, whole)
    assert torch.equal(grown[..., rim : whole - rim, rim : whole - rim], picture.float())
    assert bool((grown[..., :rim] == 0).all()) and bool((grown[..., whole - rim :] == size - 1).all())


@pytest.mark.parametrize(("cells", "stride"), [(14, 8), (13, 8), (7, 16)])
def test_cells_are_read_where_those_of_the_student_look(cells: int, stride: int) -> None:
    there = (torch.arange(13.0) - 6) * 16  # pixels from the middle
    maps = torch.stack([there.expand(13, 13), there.view(13, 1).expand(13, 13)])[None]
    found = resampled_cells(maps, 16, cells, stride)
    wanted = (torch.arange(float(cells)) - (cells - 1) / 2) * stride
    assert_close(found[0, 0], wanted.expand(cells, cells), "float32")
    assert_close(found[0, 1], wanted.view(cells, 1).expand(cells, cells), "float32")


def test_what_a_linear_layer_makes_of_the_students_features_is_no_loss(teacher: SiameseNetwork, pairs: Pairs) -> None:
    searches = pairs.searches.flatten(0, 1)
    grown = pairs._replace(searches=whole_cells(searches, 16).view(3, 2, 3, 81, 81))
    fine, deep = teacher.features(whole_cells(searches, 16))
    mixed = torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
    said = torch.einsum("oc,nchw->nohw", mixed, deep) + 3  # another basis, another level
    back, mean = torch.linalg.inv(mixed), deep.mean((0, 2, 3))
    spread = (deep - mean.view(1, -1, 1, 1)).square().mean((0, 2, 3)).sqrt()
    layer = nn.Conv2d(20, 20, 1)
    with torch.no_grad():
        layer.weight.copy_((back / spread[:, None])[:, :, None, None])
        layer.bias.copy_(-(back @ torch.full((20,), 3.0) + mean) / spread)  # type: ignore[union-attr]
    teacher.regressor, teacher.fine_weight = layer, 0.0
    same = TeacherTraining(teacher.requires_grad_(False), 3.0)
    assert float(same.of(teacher, None, Features(fine, said), grown).detach()) < 1e-6
    assert float(same.of(teacher, None, Features(fine, torch.zeros_like(said)), grown).detach()) > 1.0


def test_fine_features_of_the_teacher_are_taught_beside_its_deep_ones(
    student: SiameseNetwork, teacher: SiameseNetwork, pairs: Pairs
) -> None:
    search = student.features(pairs.searches.flatten(0, 1))
    once, twice = (
        float(TeacherTraining(teacher, weight).of(student, None, search, pairs).detach()) for weight in (1.0, 2.0)
    )
    assert twice == pytest.approx(2 * once)
    with torch.no_grad():
        assert isinstance(teacher.backbone, Teacher)
        teacher.backbone.fine.weight.neg_()
    assert float(TeacherTraining(teacher, 1.0).of(student, None, search, pairs).detach()) != pytest.approx(once)


def test_what_is_taught_is_added_to_the_heads_loss_and_learned(
    student: SiameseNetwork, teacher: SiameseNetwork, pairs: Pairs
) -> None:
    taught = TeacherTraining(teacher, 5.0)
    plain = siamfc_objective(8, 9.0, None)(student, pairs)
    objective = siamfc_objective(8, 9.0, None, [taught])
    with torch.no_grad():
        extra = taught.of(student, None, student.features(pairs.searches.flatten(0, 1)), pairs)
    assert_close(objective(student, pairs).detach(), (plain + extra).detach(), "float32")
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    for _ in range(60):
        loss = objective(student, pairs)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        after = taught.of(student, None, student.features(pairs.searches.flatten(0, 1)), pairs)
    assert float(after) < 0.3 * float(extra)
    assert all(parameter.grad is None for parameter in teacher.parameters())
