"""Hold the rules of the package's structure: what may import what, how long things are, what they may do."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lowest first: a module imports only from earlier rows. A new module goes into the row that fits, or gets a new one.
LAYERS = (
    ("toml_tree", "video_reader", "file_names", "models.depthwise", "cli_options"),
    (
        *("geometry", "config", "exported", "frames", "metrics", "threads", "whole_file", "data.augment"),
        *(
            "pooling",
            "verification",
            "models.backbones",
            "models.correlation_numba",
            "models.online_filter",
            "models.box_regression",
        ),
        *("models.anchors", "training.losses", "training.distributed"),
        *("models.encoders", "training.mining", "data.distort", "data.labelled", "data.pair_lists", "fewshot"),
        *("data.storage",),
    ),
    (
        "interface",
        "zoo",
        "models.embedding",
        "models.filter_neck",
        "models.windows",
    ),  # it names the type of a frame, which all the next row handles
    (
        *(
            "models.refiner",
            "training.metric_losses",
            "training.provenance",
            "data.shard_index",
            "data.batches",
            "data.omniglot",
            "data.image_folder",
        ),
        *("encoder_config", "training.trainer", "roc_plot", "manifest"),
    ),
    (
        *("crop", "draw", "decode", "models.correlation", "checkpoint", "data.sequence", "data.tracks"),
        *(
            "training.targets",
            "training.filter_loss",
            "video_writer",
            "box_files",
            "window",
            "tally",
            "pipeline",
            "models.batch",
        ),
        *("training.metric_objectives", "training.ranges", "encoding"),
    ),
    (
        *("views", "runtime", "encoder_builder", "result_sheet", "data.track_pool", "data.shards", "average"),
        *("combine", "training.run_folder"),
    ),
    (
        *(
            "online",
            "refinement",
            "certainty",
            "recovery",
            "models.heads",
            "models.up_channel",
            "loop",
            "annotation",
            "data.otb",
            "data.got10k",
            "data.pairs",
        ),
        *("data.track_writer", "data.videos", "data.boxed_pictures", "data.masks", "data.shard_stream"),
    ),
    ("batch_video", "models.ensemble"),
    ("data.check", "data.video_tracks", "data.pair_sheet", "data.object_views", "data.pack", "data.shard_pairs"),
    ("models.siamese", "data.layouts", "data.shard_check", "training.board", "workers", "batch_folder"),
    ("localisers", "rpn_localiser", "models.graphs", "ray_workers"),
    ("runtime_torch", "runtime_graphs", "training.objectives", "training.teacher", "training.refining"),
    ("siamese_tracker", "runtime_programs", "openvino_files"),
    ("network_builder", "export", "evaluation"),
    ("builder",),
    ("verifier",),
    ("evaluation_toolkit", "training.watch", "training.verifier", "training.recipe", "quantise", "picture_index"),
    ("training.pair_source", "training.start"),
    ("training.run", "training.encoder_run"),
    ("cli_track", "cli_batch", "cli_eval", "cli_train", "cli_data", "cli_export", "cli_encoder", "cli_verify"),
    ("cli",),
    ("__main__",),
)
LAYER_OF = {module: layer for layer, row in enumerate(LAYERS) for module in row}

BASES = {
    *("Module", "Function", "Dataset", "Sampler"),  # torch
    *("Protocol", "Generic", "NamedTuple", "Enum", "str"),  # typing and its kin; str makes an Enum print as its value
    *("ValueError", "RuntimeError", "OSError"),
    *("ExperimentOTB", "ExperimentGOT10k"),  # the got10k toolkit is extended by overriding, it offers no other way
}
SOLVES_WITH_OPENCV = "models.online_filter"  # no network, and OpenCV's Cholesky is the fastest at hand
NOT_IN_NETWORKS = {"cv2", "pathlib", "os", "io", "shutil", "tracker.config"}
MAX_FILE_LINES = 320
MAX_FUNCTION_LINES = 45
MAX_PARAMETERS = 7

Function = ast.FunctionDef | ast.AsyncFunctionDef


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "tracker").with_suffix("").parts)


FILES = {module_name(path): path for path in sorted((ROOT / "tracker").rglob("*.py"))}
MODULES = [name for name in FILES if name.rpartition(".")[2] != "__init__"]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and full name of every import, also those inside functions and under TYPE_CHECKING.

    `from a import b` gives a.b where that is a module of ours, else a. The version is no import: it stands in the
    package itself, so nothing is loaded for it.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                full = f"{source}.{alias.name}"
                if full == "tracker.__version__":
                    continue
                yield node.lineno, full if full.removeprefix("tracker.") in FILES else source


def wrong_imports(module: str, tree: ast.AST) -> list[str]:
    found = []
    for line, name in imports(tree):
        top, _, rest = name.partition(".")
        if top in ("tests", "tools", "benchmarks", ""):
            found.append(f"line {line}: imports {name}; the package imports nothing beside it, and by full names")
        elif top == "tracker" and rest not in LAYER_OF:
            found.append(f"line {line}: imports {name}, which is no module of the table")
        elif top == "tracker" and LAYER_OF[rest] >= LAYER_OF[module]:
            found.append(f"line {line}: imports {rest}, which is in no earlier row than {module}")
    return found


def worldly_networks(module: str, tree: ast.AST) -> list[str]:
    if not module.startswith("models."):
        return []
    found = [
        f"line {line}: a network imports {name}"
        for line, name in imports(tree)
        if (name in NOT_IN_NETWORKS or name.partition(".")[0] in NOT_IN_NETWORKS)
        and (module, name) != (SOLVES_WITH_OPENCV, "cv2")
    ]
    return found + [f"line {line}: a network opens a file" for line in calls(tree, "open")]


def stray_prints(module: str, tree: ast.AST) -> list[str]:
    if module.startswith("cli") or module == "__main__":
        return []
    return [f"line {line}: prints; log or return it" for line in calls(tree, "print")]


def calls(tree: ast.AST, function: str) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            yield node.lineno


def bare_excepts(module: str, tree: ast.AST) -> list[str]:
    handlers = (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler))
    return [f"line {node.lineno}: bare except" for node in handlers if node.type is None]


def inheritance(module: str, tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            names = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases]
            found += [f"line {node.lineno}: {node.name} inherits {name}" for name in names if name not in BASES]
    return found


def long_functions(module: str, tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                found.append(f"line {node.lineno}: {node.name} has {lines} lines, more than {MAX_FUNCTION_LINES}")
            if len(parameters(node)) > MAX_PARAMETERS:
                found.append(f"line {node.lineno}: {node.name} has more than {MAX_PARAMETERS} parameters")
    return found


def parameters(function: Function) -> list[str]:
    """Return the names of the parameters, without self and cls and the options of a command, which are Annotated."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [
        argument.arg
        for argument in arguments
        if argument.arg not in ("self", "cls")
        and not (argument.annotation and ast.unparse(argument.annotation).startswith("Annotated["))
    ]


RULES = (wrong_imports, worldly_networks, stray_prints, bare_excepts, inheritance, long_functions)


@pytest.mark.parametrize("module", MODULES)
def test_module_keeps_the_rules(module: str) -> None:
    assert module in LAYER_OF, f"tracker.{module} has no row in LAYERS; give it one"
    text = FILES[module].read_text(encoding="utf-8")
    tree = ast.parse(text)
    found = [complaint for rule in RULES for complaint in rule(module, tree)]
    if text.count("\n") > MAX_FILE_LINES:
        found.append(f"{text.count(chr(10))} lines, more than {MAX_FILE_LINES}; look for the second idea inside")
    assert not found, f"{FILES[module].relative_to(ROOT)}:\n" + "\n".join(found)


@pytest.mark.parametrize("package", [name for name in FILES if name.endswith(".__init__")])
def test_inner_packages_hold_nothing_but_modules(package: str) -> None:
    body = ast.parse(FILES[package].read_text(encoding="utf-8")).body
    assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def test_no_module_stands_in_two_rows() -> None:
    assert len(LAYER_OF) == sum(len(row) for row in LAYERS)


@pytest.mark.parametrize(
    ("module", "source", "complaints"),
    [
        ("crop", "from tracker.geometry import Box", 0),
        ("crop", "from tracker import geometry", 0),
        ("crop", "import tracker.draw", 1),  # the same row
        ("crop", "def f():\n    from tracker.builder import load_tracker", 1),
        ("crop", "if TYPE_CHECKING:\n    from tracker import builder, cli", 2),
        ("crop", "from tracker import load_tracker", 1),  # the package's face is for its users
        ("crop", "from tracker import __version__", 0),
        ("crop", "from . import geometry", 1),
        ("crop", "from tests import reference\nimport tools.demo", 2),
        ("models.heads", "import cv2\nfrom pathlib import Path\nfrom tracker import config", 3),
        ("models.heads", "open('weights')", 1),
        ("crop", "import cv2\nopen('image')", 0),
        ("crop", "print(1)", 1),
        ("cli_track", "print(1)", 0),
        ("crop", "try:\n    pass\nexcept:\n    pass", 1),
        ("crop", "class A(nn.Module): ...\nclass B(Dataset[int]): ...\nclass C(A): ...", 1),
        ("crop", "def f(a, b, c, d, e, f, g, *, h): ...", 1),
        ("cli_track", "def f(self, a, b, c, d, e, f, g, h: Annotated[int, 1]): ...", 0),
        ("crop", "def f():\n" + 45 * "    pass\n", 1),
    ],
)
def test_rules_catch_what_they_name(module: str, source: str, complaints: int) -> None:
    tree = ast.parse(source)
    assert len([complaint for rule in RULES for complaint in rule(module, tree)]) == complaints
