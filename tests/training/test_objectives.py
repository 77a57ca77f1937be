import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import reference
from tests.tolerances import assert_close
from tracker.data.pairs import Pairs
from tracker.models.heads import SiamFCHead
from tracker.models.siamese import SiameseNetwork
from tracker.training.objectives import siamfc_objective

STRIDE = 8
TEMPLATE, SEARCH = 24, 72  # 3x3 cells on 9x9: a response of 7x7


class Backbone(nn.Module):
    """Embed patches of 8x8 pixels, each alone, so that a few steps teach it all there is."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, STRIDE, STRIDE), nn.ReLU(), nn.Conv2d(16, channels, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, channels, H / 8, W / 8)."""
        features: Tensor = self.layers(images)
        return features


@pytest.fixture
def network() -> SiameseNetwork:
    torch.manual_seed(0)
    network = SiameseNetwork(Backbone(), SiamFCHead())
    nn.init.constant_(network.head.bias, -0.3)
    return network


def pairs(n: int = 3, k: int = 2) -> Pairs:
    """Return pairs in which the template lies in each of its searches at the centre; one does not match."""
    generator = torch.Generator().manual_seed(1)
    template = torch.randint(0, 256, (n, 3, TEMPLATE, TEMPLATE), generator=generator, dtype=torch.uint8)
    searches = torch.randint(0, 256, (n, k, 3, SEARCH, SEARCH), generator=generator, dtype=torch.uint8)
    cells = torch.randint(0, (SEARCH - TEMPLATE) // STRIDE + 1, (n, k, 2), generator=generator)
    positive = torch.ones(n, k, dtype=torch.bool)
    positive[-1, -1] = False
    for i in range(n):
        for j in range(k):
            u, v = (STRIDE * cells[i, j]).tolist()
            if positive[i, j]:
                searches[i, j, :, v : v + TEMPLATE, u : u + TEMPLATE] = template[i]
    centres = (STRIDE * cells + TEMPLATE / 2 - SEARCH / 2).float()
    return Pairs(template, searches, centres, positive)


def test_loss_is_that_of_the_pairs_one_by_one(network: SiameseNetwork) -> None:
    batch = pairs()
    loss = siamfc_objective(STRIDE, 9.0, None)(network, batch)
    responses, labels = [], []
    for i in range(3):
        for j in range(2):
            with torch.no_grad():
                template, search = batch.template[i : i + 1], batch.searches[i, j : j + 1]
                response = network(network.embed(template), network.embed(search))
            responses.append(response[0])
            centre, positive = batch.centres[i, j : j + 1], [bool(batch.positive[i, j])]
            labels.append(reference.response_labels(centre.double().numpy(), positive, 7, STRIDE, 9.0)[0])
    stacked = torch.stack(responses).double().numpy()
    assert_close(loss.detach(), reference.balanced_logistic_loss(stacked, np.stack(labels)), "float32")


def test_order_of_the_pairs_does_not_matter(network: SiameseNetwork) -> None:
    objective, batch = siamfc_objective(STRIDE, 9.0, None), pairs()
    turned = Pairs(*(part.flip(0) for part in batch))
    mixed = batch._replace(template=batch.template.flip(0))  # templates with the searches of others
    assert_close(objective(network, turned).detach(), objective(network, batch).detach(), "float32")
    assert abs(float(objective(network, mixed).detach() - objective(network, batch).detach())) > 1e-4


def test_gradient_reaches_every_parameter(network: SiameseNetwork) -> None:
    siamfc_objective(STRIDE, 9.0, None)(network, pairs()).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_half_precision_gives_nearly_the_same_loss_in_float32(network: SiameseNetwork) -> None:
    exact = siamfc_objective(STRIDE, 9.0, None)(network, pairs()).detach()
    half = siamfc_objective(STRIDE, 9.0, torch.bfloat16)(network, pairs()).detach()
    assert half.dtype == torch.float32
    assert half != exact
    assert abs(float(half - exact)) < 0.02 * float(exact)


def test_a_few_steps_teach_where_the_object_is(network: SiameseNetwork) -> None:
    objective, batch = siamfc_objective(STRIDE, 9.0, None), pairs()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    history = []
    for _ in range(40):
        loss = objective(network, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.3 * history[0]
    with torch.no_grad():
        response = network(network.embed(batch.template[:1]), network.embed(batch.searches[0, :1]))[0, 0]
    row, column = divmod(int(response.argmax()), 7)
    found = torch.tensor([column - 3, row - 3]) * STRIDE
    assert (found - batch.centres[0, 0]).norm() <= 9.0
