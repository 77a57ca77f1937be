"""Run the programs that torch exported: a network without the code that built it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tracker.exported import BACKBONE, Exported
from tracker.runtime import Array
from tracker.runtime_graphs import Inputs, kept, search_in_two


class ProgramEngine:
    """Run programs of `torch.export` on the CPU, in as many threads as torch is set to."""

    precision = "float32"

    def __init__(self, folder: Path, exported: Exported) -> None:
        """Load all programs."""
        self._exported = exported
        self._names = exported.outputs[BACKBONE], kept(exported)
        self._programs: dict[str, Any] = {
            graph: torch.export.load(exported.path(folder, graph)).module() for graph in exported.outputs
        }

    @torch.inference_mode()
    def run(self, graph: str, inputs: Inputs) -> list[Array]:
        """Return the outputs of a graph, see `Engine`."""
        given = [torch.from_numpy(inputs[name]) for name in self._exported.inputs(graph)]
        return [part.numpy() for part in self._programs[graph](*given)]

    def search(self, images: np.ndarray[Any, Any], code: Inputs) -> list[Array]:
        """Return features and answers, see `Engine`."""
        return search_in_two(self.run, self._names, images, code)
