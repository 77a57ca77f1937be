"""Run an exported model in ONNX Runtime or OpenVINO, without torch."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np

from tracker.config import parse
from tracker.exported import BACKBONE, CODE, EMBEDDING, HEAD, REFINER, Exported
from tracker.interface import Frame
from tracker.runtime import KEPT, Array, Code, Seen, stack

_SEARCH = "search"  # backbone and head, as one graph
_CORE = Lock()
Inputs = Mapping[str, np.ndarray[Any, Any]]


class Engine(Protocol):
    """Run graphs by name. What comes back is only good until the same graph runs again."""

    precision: str  # of its arithmetic

    def run(self, graph: str, inputs: Inputs) -> list[Array]:
        """Return the outputs of a graph, in their order, float32; inputs that it does not have are left out."""

    def search(self, images: np.ndarray[Any, Any], code: Inputs) -> list[Array]:
        """Return the `kept` outputs for search crops, then what the head answers to a code of as many templates."""


class GraphRuntime:
    """Run the backbone, the template's side and the search's side of an exported model, one caller at a time."""

    def __init__(self, engine: Engine, exported: Exported) -> None:
        self.engine = engine
        self.exported = exported
        self.stride = exported.stride
        self.embeds = EMBEDDING in exported.outputs
        self.refines = REFINER in exported.outputs
        self._kept = kept(exported)
        self._found = (*self._kept, *exported.outputs.get(HEAD, ()))
        self._lock = Lock()  # what an engine hands out is its own, until it is copied

    def encode(self, crop: Frame, size_wh: tuple[float, float]) -> Code:
        """Return the code of a template crop, see `runtime.Runtime`."""
        if CODE not in self.exported.outputs:
            return ()
        size = np.array([size_wh], np.float32)
        with self._lock:
            features = self._embed([crop])
            found = self.engine.run(CODE, {"deep": features["deep"], "object_wh": size})
            return tuple(part.copy() for part in found)

    def see(self, crops: Sequence[Frame], codes: Sequence[Code]) -> Seen:
        """Return what is seen in search crops, see `runtime.Runtime`."""
        with self._lock:
            return self._see(crops, codes)

    def _see(self, crops: Sequence[Frame], codes: Sequence[Code]) -> Seen:
        if HEAD in self.exported.outputs and codes:
            parts = [np.repeat(part, len(crops), axis=0) if len(part) < len(crops) else part for part in stack(codes)]
            code = dict(zip(self.exported.outputs[CODE], parts, strict=True))
            found = self.engine.search(_images(crops), code)
            return Seen(**{name: part.copy() for name, part in zip(self._found, found, strict=True)})
        features = self._embed(crops)
        return Seen(**{name: features[name].copy() for name in self._kept})

    def embed(self, pooled: Array) -> Array:
        """Return the vectors of pooled features, see `runtime.Runtime`."""
        with self._lock:
            return self.engine.run(EMBEDDING, {"pooled": pooled})[0].copy()

    def refine(self, template: Array, windows: Array) -> Array:
        """Return how the boxes of windows are to move, see `runtime.Runtime`."""
        with self._lock:
            return self.engine.run(REFINER, {"template": template, "window": windows})[0].copy()

    def _embed(self, crops: Sequence[Frame]) -> dict[str, Array]:
        found = self.engine.run(BACKBONE, {"images": _images(crops)})
        return dict(zip(self.exported.outputs[BACKBONE], found, strict=True))


def _images(crops: Sequence[Frame]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(crops[0][np.newaxis] if len(crops) == 1 else np.stack(crops))


def kept(exported: Exported) -> tuple[str, ...]:
    """Return which outputs of the backbone a search hands on; the fine features are one where boxes are corrected."""
    fine = ("fine",) if parse(exported.config).corrects_boxes else ()
    return tuple(name for name in (*KEPT, *fine) if name in exported.outputs[BACKBONE])


def search_in_two(
    run: Callable[[str, Inputs], list[Array]],
    names: tuple[Sequence[str], Sequence[str]],
    images: np.ndarray[Any, Any],
    code: Inputs,
) -> list[Array]:
    """Return what `Engine.search` does, of an engine that has backbone and head as two graphs.

    names: of the backbone's outputs, and of those that are `kept`.
    """
    features = dict(zip(names[0], run(BACKBONE, {"images": images}), strict=True))
    return [*(features[name] for name in names[1]), *run(HEAD, {**features, **code})]


def difference(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    """Return how far one answer is from another of its shape at most, over the largest number of the wanted one."""
    return float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-6))


class OnnxEngine:
    """Run graphs in ONNX Runtime."""

    def __init__(self, folder: Path, exported: Exported, threads: int) -> None:
        """Load all graphs. Raises ValueError where ONNX Runtime is not installed."""
        self._names = exported.outputs[BACKBONE], kept(exported)
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError("ONNX Runtime is not installed: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin between two frames take the cores from whoever decodes the next one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._sessions = {
            graph: onnxruntime.InferenceSession(
                exported.path(folder, graph), options, providers=["CPUExecutionProvider"]
            )
            for graph in exported.outputs
        }
        self.precision = exported.precision
        self._inputs = {
            graph: {given.name for given in session.get_inputs()} for graph, session in self._sessions.items()
        }

    def run(self, graph: str, inputs: Inputs) -> list[Array]:
        """Return the outputs of a graph, see `Engine`."""
        wanted = {name: value for name, value in inputs.items() if name in self._inputs[graph]}
        found: list[Array] = self._sessions[graph].run(None, wanted)
        return found

    def search(self, images: np.ndarray[Any, Any], code: Inputs) -> list[Array]:
        """Return features and answers, see `Engine`."""
        return search_in_two(self.run, self._names, images, code)


@cache
def _only(core: type[Any]) -> Any:  # noqa: ANN401 - openvino.Core
    """Return the one core of this process, which stays: each gives its thread another stack for signal handlers.

    Where several are freed in the order in which they were made, the last one restores a stack that is gone, and the
    next signal, such as Ctrl-C's, ends the process with a segmentation fault. Called with `_CORE` held.
    """
    return core()


class OpenVinoEngine:
    """Run graphs in OpenVINO, in bfloat16 where the CPU computes it natively and the network bears it.

    A graph is compiled for each shape of its inputs when it first comes, which takes a tenth of a second; a batch runs
    one by one, so that another number of targets needs no other graph. In a search the head is part of the backbone's
    graph: features stay where they are.
    """

    def __init__(self, folder: Path, exported: Exported, threads: int) -> None:
        """Read all graphs. Raises ValueError where OpenVINO is not installed."""
        try:
            import openvino
        except ImportError as error:
            raise ValueError("OpenVINO is not installed: pip install 'siamtrack[openvino]'") from error
        with _CORE:
            self._core = _only(openvino.Core)
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        half = exported.bears_bfloat16 and "BF16" in able
        rest = "bfloat16" if half else "float32"
        self.precision = rest if exported.precision == "float32" else f"{exported.precision} and {rest}"
        self._properties = {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # two trackers in two processes would be pinned to the same core
        }
        self._names, self._kept = exported.outputs[BACKBONE], kept(exported)
        # At once: when a shape first comes, the folder may be gone, another one, or not where a relative path leads.
        self._models = {graph: self._core.read_model(exported.path(folder, graph)) for graph in exported.outputs}
        self._requests: dict[tuple[object, ...], tuple[dict[str, Any], list[Array], Any]] = {}

    def run(self, graph: str, inputs: Inputs) -> list[Array]:
        """Return the outputs of a graph, see `Engine`."""
        return self._run_each(graph, inputs)

    def search(self, images: np.ndarray[Any, Any], code: Inputs) -> list[Array]:
        """Return features and answers, see `Engine`."""
        return self._run_each(_SEARCH, {"images": images, **code})

    def _run_each(self, graph: str, inputs: Inputs) -> list[Array]:
        count = max(len(value) for value in inputs.values())
        if count == 1:
            return self._run_one(graph, inputs)
        singles = ({name: value[at : at + 1] for name, value in inputs.items()} for at in range(count))
        found = [[part.copy() for part in self._run_one(graph, single)] for single in singles]
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def _run_one(self, graph: str, inputs: Inputs) -> list[Array]:
        key = (graph, *(value.shape for value in inputs.values()))
        if key not in self._requests:
            self._requests[key] = self._compile(graph, inputs)
        given, found, request = self._requests[key]
        for name, array in given.items():
            np.copyto(array, inputs[name], casting="same_kind")
        request.infer(share_outputs=True)
        return list(found)

    def _compile(self, graph: str, inputs: Inputs) -> tuple[dict[str, Any], list[Array], Any]:
        """Return a graph for inputs of these shapes: where to put them, where the outputs are then, and what computes.

        Arrays handed in and asked for with each call would be looked at and wrapped anew: a tenth of an update.
        """
        import openvino

        model = self._join() if graph == _SEARCH else self._models[graph].clone()
        names = [port.get_any_name() for port in model.inputs]
        model.reshape({name: list(inputs[name].shape) for name in names})
        compiled = self._core.compile_model(model, "CPU", self._properties)
        request = compiled.create_infer_request()
        given, found = (
            [openvino.Tensor(port.element_type, port.shape) for port in ports]
            for ports in (compiled.inputs, compiled.outputs)
        )
        for place, tensor in enumerate(given):
            request.set_input_tensor(place, tensor)
        for place, tensor in enumerate(found):
            request.set_output_tensor(place, tensor)
        inside = dict(zip(names, (tensor.data for tensor in given), strict=True))
        return inside, [tensor.data for tensor in found], request

    def _join(self) -> Any:  # noqa: ANN401 - a model of OpenVINO
        """Return one graph of backbone and head: the head reads its features where the backbone leaves them."""
        import openvino

        backbone, head = (self._models[graph].clone() for graph in (BACKBONE, HEAD))
        results = dict(zip(self._names, backbone.get_results(), strict=True))
        codes = []
        for given in head.get_parameters():
            name = given.output(0).get_any_name()
            if name not in results:
                codes.append(given)
                continue
            for reader in given.output(0).get_target_inputs():
                reader.replace_source_output(results[name].input(0).get_source_output())
        outputs = [*(results[name] for name in self._kept), *head.get_results()]
        return openvino.Model(outputs, [*backbone.get_parameters(), *codes], _SEARCH)
