"""Write exported graphs as OpenVINO's own files, which its runtimes in other languages read without more."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tracker.exported import Exported, begin, digest, read_card, write_card
from tracker.runtime import Array
from tracker.runtime_graphs import Inputs, OpenVinoEngine, difference

_TOLERANCES = {"float32": 1e-2, "int8": 0.1}  # of the largest answer: half precision rounds; 8 bits, up or down


def to_openvino(source: Path, out: Path, half: bool, examples: Mapping[str, Inputs]) -> Exported:
    """Write the ONNX graphs of a folder as OpenVINO's into another one, and their card.

    half: store the weights in half precision. examples: inputs of each graph, of which both kinds must make the same.
    Raises ValueError where they do not, or where OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise ValueError("OpenVINO is not installed: pip install 'siamtrack[openvino]'") from error
    given = read_card(source)
    exported = replace(given, kind="openvino")
    begin(out, source)
    for graph in given.outputs:
        model = openvino.convert_model(str(given.path(source, graph)))
        # A tracker that runs has the files mapped into its memory: they are replaced, not written over.
        with TemporaryDirectory(dir=out) as beside:
            openvino.save_model(model, str(exported.path(Path(beside), graph)), compress_to_fp16=half)
            for path in exported.files(Path(beside), graph):
                path.replace(out / path.name)
    hashes = {graph: digest(*exported.files(out, graph)) for graph in exported.outputs}
    exported = replace(exported, sha256=hashes, provenance={**given.provenance, "openvino": openvino.__version__})
    before, after = OpenVinoEngine(source, given, threads=1), OpenVinoEngine(out, exported, threads=1)
    for graph, inputs in examples.items():
        for wanted, found in zip(_of(before, graph, inputs), _of(after, graph, inputs), strict=True):
            if not (off := difference(found, wanted)) <= _TOLERANCES[given.precision]:
                raise ValueError(f"the graph {graph} in OpenVINO's form is off by {off:.1e} of its largest answer")
    write_card(out, exported)  # last: without it the folder is no model
    return exported


def _of(engine: OpenVinoEngine, graph: str, inputs: Inputs) -> list[Array]:
    return [part.copy() for part in engine.run(graph, inputs)]
