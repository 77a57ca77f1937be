"""Options that several commands have, each with one name and one help text."""

from typing import Annotated

import typer

Model = Annotated[
    str | None, typer.Option(help="Model name (see `siamtrack models`), weight file or folder of graphs.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Runtime = Annotated[str, typer.Option(help="What computes the network: auto, torch, onnx or openvino.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of the network; as many as cores are free, up to 4, if not given.")
]
