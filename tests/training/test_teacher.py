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
from tracker.training.teacher import TeacherTraining, inner_products, resampled_cells, whole_cells

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
    return SiameseNetwork(Student(), SiamFCHead())


@pytest.fixture
def teacher() -> SiameseNetwork:
    torch.manual_seed(1)
    return SiameseNetwork(Teacher(), None).eval()


@pytest.fixture
def pairs() -> Pairs:
    generator = torch.Generator().manual_seed(2)
    template = torch.randint(0, 256, (3, 3, 31, 31), generator=generator, dtype=torch.uint8)
    # Blocks of one colour, larger than a cell: there is something to be alike in.
    searches = torch.randint(0, 256, (3, 2, 3, 5, 5), generator=generator, dtype=torch.uint8)
    searches = searches.repeat_interleave(15, 3).repeat_interleave(15, 4)[..., :SEARCH, :SEARCH]
    boxes = torch.tensor([0.0, 0.0, 16.0, 16.0])
    return Pairs(template, searches, boxes.expand(3, 4), boxes.expand(3, 2, 4), torch.ones(3, 2, dtype=torch.bool))


def test_inner_products_are_those_of_all_places_of_a_group() -> None:
    maps = torch.randn(4, 5, 2, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 9, 0.1, 3]).view(
        4, 1, 1, 1
    )
    found = inner_products(maps, groups=2)
    for group in range(2):
        rows = []
        for one in maps[2 * group : 2 * group + 2].double().numpy():
            scale = np.sqrt(np.mean([one[:, y, x] @ one[:, y, x] for y in range(2) for x in range(3)]))
            rows += [one[:, y, x] / scale for y in range(2) for x in range(3)]
        assert_close(found[group], np.array([[a @ b for b in rows] for a in rows]), "float32")
    assert torch.isfinite(inner_products(torch.zeros(2, 5, 2, 3), groups=1)).all()


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


def test_student_that_sees_what_the_teacher_does_has_nothing_to_learn(teacher: SiameseNetwork, pairs: Pairs) -> None:
    searches = pairs.searches.flatten(0, 1)
    same = TeacherTraining(teacher.requires_grad_(False), 0.0, 3.0)
    grown = pairs._replace(searches=whole_cells(searches, 16).view(3, 2, 3, 81, 81))
    assert float(same.of(teacher, teacher.features(whole_cells(searches, 16)), grown)) < 1e-9
    fine, deep = teacher.features(whole_cells(searches, 16))
    turned = Features(fine, deep[:, torch.randperm(20, generator=torch.Generator().manual_seed(0))])
    assert float(same.of(teacher, turned, grown)) < 1e-9  # the channels' order means nothing
    assert float(same.of(teacher, Features(fine, deep + 1), grown)) > 1e-3


def test_fine_features_of_the_teacher_count_by_their_weight(
    student: SiameseNetwork, teacher: SiameseNetwork, pairs: Pairs
) -> None:
    search = student.features(pairs.searches.flatten(0, 1))
    deep, both, double = (
        float(TeacherTraining(teacher, fine, weight).of(student, search, pairs).detach())
        for fine, weight in ((0.0, 1.0), (1.0, 1.0), (1.0, 2.0))
    )
    assert deep != both
    assert double == pytest.approx(2 * both)


def test_what_is_taught_is_added_to_the_heads_loss_and_learned(
    student: SiameseNetwork, teacher: SiameseNetwork, pairs: Pairs
) -> None:
    taught = TeacherTraining(teacher, 1.0, 5.0)
    plain = siamfc_objective(8, 9.0, None)(student, pairs)
    objective = siamfc_objective(8, 9.0, None, [taught])
    with torch.no_grad():
        extra = taught.of(student, student.features(pairs.searches.flatten(0, 1)), pairs)
    assert_close(objective(student, pairs).detach(), (plain + extra).detach(), "float32")
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    for _ in range(60):
        loss = objective(student, pairs)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        after = taught.of(student, student.features(pairs.searches.flatten(0, 1)), pairs)
    assert float(after) < 0.3 * float(extra)
    assert all(parameter.grad is None for parameter in teacher.parameters())
