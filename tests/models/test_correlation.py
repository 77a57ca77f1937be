import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import reference
from tests.tolerances import TOLERANCES, Kind, assert_close
from tracker.models import correlation_numba
from tracker.models.correlation import Backend, cross_correlation, depthwise_cross_correlation

Correlate = Callable[..., Tensor]
Shape = tuple[int, ...]

CORRELATIONS = (cross_correlation, depthwise_cross_correlation)
BACKENDS = ("torch", "numba", "auto")
DTYPES = {"float64": torch.float64, "float32": torch.float32}
CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
)

# Template and search shapes: what each one is there for.
SHAPES = {
    "one sample": ((1, 5, 3, 4), (1, 5, 7, 9)),
    "a template for each sample": ((3, 5, 3, 4), (3, 5, 7, 9)),
    "one template for all samples": ((1, 5, 3, 4), (3, 5, 7, 9)),
    "a template of one pixel": ((2, 4, 1, 1), (2, 4, 3, 5)),
    "a template as large as the search": ((2, 4, 5, 3), (2, 4, 5, 3)),
    "a template as wide as the search": ((2, 4, 2, 6), (2, 4, 5, 6)),
    "one channel": ((2, 1, 3, 2), (2, 1, 5, 5)),
    "few channels and a large template": ((3, 2, 5, 5), (3, 2, 8, 7)),
    "few channels and one large template": ((1, 2, 5, 5), (3, 2, 8, 7)),
    "more channels than one task sums": ((2, 70, 2, 3), (2, 70, 4, 5)),
}


def random_maps(
    template_shape: Shape, search_shape: Shape, dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (template_shape, search_shape)]
    return [maps.to(dtype) for maps in draw]


def with_gradients(
    correlate: Correlate, template: Tensor, search: Tensor, grad_response: Tensor, backend: Backend
) -> list[Tensor]:
    """Return response, template gradient and search gradient in float64 on the CPU."""
    template, search = template.detach().requires_grad_(), search.detach().requires_grad_()
    response = correlate(template, search, backend)
    response.backward(grad_response.to(response))
    assert template.grad is not None
    assert search.grad is not None
    assert response.dtype == template.grad.dtype == search.grad.dtype == search.dtype
    assert response.device == search.device
    return [result.detach().cpu().double() for result in (response, template.grad, search.grad)]


def assert_matches_loop(correlate: Correlate, template: Tensor, search: Tensor, backend: Backend, kind: Kind) -> None:
    truth = getattr(reference, correlate.__name__)(template.cpu().double().numpy(), search.cpu().double().numpy())
    grad_response = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grad_response = grad_response.to(search.dtype)
    truths = (
        truth,
        *reference.correlation_gradients(
            template.cpu().double().numpy(), search.cpu().double().numpy(), grad_response.double().numpy()
        ),
    )
    for actual, expected in zip(
        with_gradients(correlate, template, search, grad_response, backend), truths, strict=True
    ):
        assert_close(actual, expected, kind)


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_response_and_gradients_match_the_loop(
    correlate: Correlate, backend: Backend, dtype: str, shapes: tuple[Shape, Shape]
) -> None:
    assert_matches_loop(correlate, *random_maps(*shapes, DTYPES[dtype]), backend, dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("correlate", CORRELATIONS)
@pytest.mark.parametrize("shapes", [((1, 256, 6, 6), (3, 256, 22, 22)), ((2, 256, 5, 5), (2, 256, 25, 25))])
def test_float32_holds_its_tolerance_at_the_shapes_of_the_trackers(
    correlate: Correlate, backend: Backend, shapes: tuple[Shape, Shape]
) -> None:
    assert_matches_loop(correlate, *random_maps(*shapes, torch.float32), backend, "float32")


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("dtype", "kind"), [("float64", "float64"), ("float32", "cuda")])
@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_other_devices_match_the_loop(
    correlate: Correlate,
    dtype: str,
    kind: Kind,
    shapes: tuple[Shape, Shape],
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    template, search = (maps.to(device) for maps in random_maps(*shapes, DTYPES[dtype]))
    assert_matches_loop(correlate, template, search, "auto", kind)


LAYOUTS = {
    "channels_last": lambda maps: maps.contiguous(memory_format=torch.channels_last),
    "transposed": lambda maps: maps.transpose(2, 3).contiguous().transpose(2, 3),
    "every other pixel": lambda maps: maps.repeat_interleave(2, 3)[..., ::2],
    "a part of a larger map": lambda maps: torch.nn.functional.pad(maps, (1, 2, 3, 1), value=9.0)[:, :, 3:-1, 1:-2],
    "the same map for all samples": lambda maps: maps[:1].expand(maps.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("template_batch", [1, 3])
@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_memory_layout_does_not_matter(
    correlate: Correlate, backend: Backend, template_batch: int, layout: Callable[[Tensor], Tensor]
) -> None:
    template, search = random_maps((template_batch, 8, 3, 4), (3, 8, 7, 9))
    template, search = layout(template), layout(search)
    assert template_batch == 1 or not search.is_contiguous()
    assert_matches_loop(correlate, template, search, backend, "float64")


@pytest.mark.parametrize("template_batch", [1, 2])
@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_gradcheck(correlate: Correlate, backend: Backend, template_batch: int) -> None:
    template, search = random_maps((template_batch, 3, 2, 3), (2, 3, 4, 5))
    inputs = (template.requires_grad_(), search.requires_grad_())
    assert torch.autograd.gradcheck(lambda *maps: correlate(*maps, backend), inputs)


@pytest.mark.parametrize("learner", ["template", "search"])
@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_only_what_learns_gets_a_gradient(correlate: Correlate, backend: Backend, learner: str) -> None:
    template, search = random_maps((2, 3, 2, 2), (2, 3, 4, 4))
    learning, fixed = (template, search) if learner == "template" else (search, template)
    learning.requires_grad_()
    correlate(template, search, backend).sum().backward()
    assert learning.grad is not None
    assert fixed.grad is None


def planted(dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Return a template and a faintly noisy search map that holds it with its first pixel at (dy, dx)."""
    template, noise = random_maps((1, 8, 3, 4), (1, 8, 9, 11), seed=2)
    search = 0.01 * noise
    search[:, :, dy : dy + 3, dx : dx + 4] += template
    return template, search


def peak(response: Tensor) -> tuple[int, int]:
    """Return row and column of the maximum of a map (H, W)."""
    return divmod(int(response.argmax()), response.shape[1])


@pytest.mark.parametrize("place", [(0, 0), (6, 7), (0, 7), (6, 0), (2, 5)])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_a_planted_template_answers_at_its_place(
    correlate: Correlate, backend: Backend, place: tuple[int, int]
) -> None:
    response = correlate(*planted(*place), backend)
    assert all(peak(channel) == place for channel in response[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_half_precision_decides_the_same(correlate: Correlate, learns: bool, dtype: torch.dtype) -> None:
    template, search = (maps.to(dtype) for maps in planted(2, 5))
    response = correlate(template.requires_grad_(learns), search.requires_grad_(learns))
    assert response.dtype == dtype
    for channel in response[0].detach():
        assert np.hypot(*np.subtract(peak(channel), (2, 5))) <= TOLERANCES["half_centre_px"]
    if learns:
        response.sum().backward()
        assert template.grad.dtype == search.grad.dtype == dtype
        maps = template.detach().double().numpy(), search.detach().double().numpy()
        truths = reference.correlation_gradients(*maps, np.ones(response.shape))
        for grad, truth in zip((template.grad, search.grad), truths, strict=True):
            cosine = torch.cosine_similarity(grad.double().flatten(), torch.from_numpy(truth).flatten(), dim=0)
            assert 1 - cosine <= TOLERANCES["half_direction"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_shifting_the_search_shifts_the_response(correlate: Correlate, backend: Backend) -> None:
    template, search = random_maps((1, 6, 3, 2), (1, 6, 12, 13))
    moved = torch.roll(search, (2, -3), (2, 3))
    response, moved_response = correlate(template, search, backend), correlate(template, moved, backend)
    assert_close(moved_response[:, :, 2:, :-3], response[:, :, :-2, 3:], "float64")


@pytest.mark.parametrize("backend", BACKENDS)
def test_correlation_of_normalised_vectors_is_their_cosine(backend: Backend) -> None:
    first, second = random_maps((4, 32, 1, 1), (4, 32, 1, 1))
    cosine = torch.nn.functional.cosine_similarity(first, second)
    normalise = torch.nn.functional.normalize
    assert_close(cross_correlation(normalise(first), normalise(second), backend).flatten(), cosine.flatten(), "float64")


@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_scales_with_one_template_are_the_scales_one_by_one(correlate: Correlate) -> None:
    template, search = random_maps((1, 16, 3, 3), (3, 16, 8, 8))
    one_by_one = torch.cat([correlate(template, search[i : i + 1]) for i in range(3)])
    assert_close(correlate(template, search), one_by_one, "float64")


def maps_of(shape: Shape, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    return torch.zeros(shape, dtype=dtype, device=device)


BAD_MAPS = {
    "template must have 4 axes.*got shape \\(5, 3, 3\\)": (maps_of((5, 3, 3)), maps_of((1, 5, 7, 7))),
    "search must have 4 axes.*got shape \\(1, 1, 5, 7, 7\\)": (maps_of((1, 5, 3, 3)), maps_of((1, 1, 5, 7, 7))),
    "search must have 4 axes.*none empty, got shape \\(0, 5, 7, 7\\)": (maps_of((1, 5, 3, 3)), maps_of((0, 5, 7, 7))),
    "same channels, got 4 and 5": (maps_of((1, 4, 3, 3)), maps_of((1, 5, 7, 7))),
    "must be 1 or that of the search, got 2 and 3": (maps_of((2, 5, 3, 3)), maps_of((3, 5, 7, 7))),
    "must fit in the search, got 3x8 \\(height x width\\) in 7x7": (maps_of((1, 5, 3, 8)), maps_of((1, 5, 7, 7))),
    "must fit in the search, got 8x3 \\(height x width\\) in 7x7": (maps_of((1, 5, 8, 3)), maps_of((1, 5, 7, 7))),
    "same dtype, got torch.float64 and torch.float32": (
        maps_of((1, 5, 3, 3), dtype=torch.float64),
        maps_of((1, 5, 7, 7)),
    ),
    "floating-point type, got torch.uint8": (maps_of((1, 5, 3, 3), dtype=torch.uint8), maps_of((1, 5, 7, 7))),
    "on one device, got cpu and meta": (maps_of((1, 5, 3, 3)), maps_of((1, 5, 7, 7), device="meta")),
}


@pytest.mark.parametrize(("message", "maps"), BAD_MAPS.items())
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_maps_that_do_not_go_together_are_refused(
    correlate: Correlate, backend: Backend, message: str, maps: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(ValueError, match=message):
        correlate(*maps, backend)


@pytest.mark.parametrize("correlate", CORRELATIONS)
def test_what_a_backend_cannot_take_is_refused(correlate: Correlate) -> None:
    template, search = random_maps((1, 5, 3, 3), (1, 5, 7, 7))
    with pytest.raises(ValueError, match='must be "auto", "torch" or "numba", got \'cuda\''):
        correlate(template, search, "cuda")
    with pytest.raises(ValueError, match="float32 and float64, got torch.bfloat16"):
        correlate(template.bfloat16(), search.bfloat16(), "numba")
    with pytest.raises(ValueError, match="runs on the CPU, got tensors on meta"):
        correlate(template.to("meta"), search.to("meta"), "numba")


@pytest.mark.parametrize(
    ("template", "search", "message"),
    [
        (np.zeros((1, 5, 3, 8)), np.zeros((1, 5, 7, 7)), r"got shapes \(1, 5, 3, 8\) and \(1, 5, 7, 7\)"),
        (np.zeros((2, 5, 3, 3)), np.zeros((3, 5, 7, 7)), "got shapes"),
        (np.zeros((1, 4, 3, 3)), np.zeros((1, 5, 7, 7)), "got shapes"),
        (np.zeros((5, 3, 3)), np.zeros((1, 5, 7, 7)), "got shapes"),
        (np.zeros((1, 5, 0, 3)), np.zeros((1, 5, 7, 7)), "got shapes"),
        (np.zeros((1, 5, 3, 3), np.float32), np.zeros((1, 5, 7, 7)), "got float32 and float64"),
        (np.zeros((1, 5, 3, 3), np.uint8), np.zeros((1, 5, 7, 7), np.uint8), "got uint8 and uint8"),
    ],
)
def test_arrays_that_the_kernels_cannot_take_are_refused(
    template: np.ndarray, search: np.ndarray, message: str
) -> None:
    for correlate in (correlation_numba.cross_correlation, correlation_numba.depthwise_cross_correlation):
        with pytest.raises(ValueError, match=message):
            correlate(template, search)


def test_gradients_of_a_response_of_the_wrong_shape_are_refused() -> None:
    template, search = np.zeros((1, 5, 3, 3)), np.zeros((2, 5, 7, 7))
    for shape in ((3, 2, 5, 5), (2, 4, 5, 5), (2, 5, 8, 5), (1, 5, 5, 5)):
        with pytest.raises(ValueError, match="no response of shape"):
            correlation_numba.template_gradient(np.zeros(shape), search, template_batch=1)
    with pytest.raises(ValueError, match="no response of shape"):
        correlation_numba.search_gradient(np.zeros((2, 4, 5, 5)), template)


@pytest.mark.parametrize("threads", [None, 2])
def test_threads_change_no_bit(threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    template, search = (maps.numpy() for maps in random_maps((1, 70, 3, 3), (3, 70, 7, 8), torch.float32))
    grad_response = np.ones((3, 1, 5, 6), np.float32)

    def everything(threads: int | None) -> tuple[np.ndarray, ...]:
        return (
            correlation_numba.cross_correlation(template, search, threads),
            correlation_numba.depthwise_cross_correlation(template, search, threads),
            correlation_numba.search_gradient(grad_response, template, threads),
            correlation_numba.template_gradient(grad_response, search, 1, threads),
        )

    alone = everything(1)
    monkeypatch.setattr(correlation_numba, "_PARALLEL_WORK", 0)
    # Four at once, as the threads of a program might: Numba's fallback thread pool would stop the process.
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(everything, [threads] * 4):
            for one, other in zip(alone, together, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "import torch\n"
            "from tracker.models.correlation import cross_correlation, depthwise_cross_correlation\n"
            "maps = torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 6, 6)\n"
            "cross_correlation(*maps), depthwise_cross_correlation(*maps)\n",
            "numba",
        ),
        ("import tracker.models.correlation_numba", "torch"),
    ],
    ids=["tracking with torch loads no numba", "the numba kernels load no torch"],
)
def test_nothing_is_loaded_in_vain(code: str, absent: str) -> None:
    check = f"\nimport sys\nsys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code + check], check=False).returncode == 0


def test_auto_trains_depthwise_templates_with_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("cross_correlation", "depthwise_cross_correlation"):
        kernel = getattr(correlation_numba, name)
        monkeypatch.setattr(
            correlation_numba, name, lambda *args, kernel=kernel, name=name: calls.append(name) or kernel(*args)
        )
    template, search = random_maps((2, 3, 2, 2), (2, 3, 4, 4))
    for correlate in CORRELATIONS:
        correlate(template, search)
        correlate(template, search.clone().requires_grad_())
        with torch.no_grad():
            correlate(template.clone().requires_grad_(), search)
    assert calls == []
    for correlate in CORRELATIONS:
        correlate(template.clone().requires_grad_(), search)
    assert calls == ["depthwise_cross_correlation"]
