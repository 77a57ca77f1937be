"""The command line: `siamtrack COMMAND`.

Exit status: 0 done, 1 a failure on the way, 2 wrong use or input (nothing was tracked), 3 lost with --stop-when-lost,
130 stopped by Ctrl-C; of `verify`: 0 the same, 1 different, 2 for everything that kept it from telling.
Errors are one line on stderr: `siamtrack: error: ...`.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from tracker.cli_batch import batch_command
from tracker.cli_data import annotate_command, check_command, import_command, pack_command, pairs_command
from tracker.cli_encoder import encoder_pairs_command, encoder_train_command, episodes_command, oneshot_command
from tracker.cli_eval import eval_command
from tracker.cli_export import export_command
from tracker.cli_track import track_command
from tracker.cli_train import average_command, combine_command, train_command, train_verifier_command
from tracker.cli_verify import index_command, search_command, verify_command, verify_pairs_command

_EXAMPLE = "Example: siamtrack track clip.mp4 --init 120,80,64,48 --save out.mp4 --boxes out.csv"

_STATUS = (
    "Exit status: 0 done, 1 a failure on the way, 2 wrong use or input, 3 lost with --stop-when-lost,"
    " 130 stopped by Ctrl-C."
)

_VERIFY_STATUS = "Exit status: 0 the same, 1 different, 2 wrong use or input."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, given by `sys.argv` without `argv`, and return the exit status."""
    logging.basicConfig(format="siamtrack: %(message)s", level=logging.WARNING)
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    command = typer.main.get_command(_build_app())
    try:
        status = command.main(args=arguments, prog_name="siamtrack", standalone_mode=False)
    except typer.TyperException as error:
        message = error.format_message()  # none of a group without a command: that has shown its help instead
        return _fail(message) if message else 0
    except (ValueError, OSError, ImportError) as error:
        return _fail(str(error))
    return status if isinstance(status, int) else 0


def _fail(message: str) -> int:
    print(f"siamtrack: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _build_app() -> typer.Typer:
    app = typer.Typer(
        help="Follow an object through a video, given its box in the first frame.",
        epilog=_STATUS,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    app.command("track", epilog=_EXAMPLE)(track_command)
    app.command("batch")(batch_command)
    app.command("models")(models_command)
    app.command("eval")(eval_command)
    app.command("export")(export_command)
    app.command("train")(train_command)
    app.command("train-verifier")(train_verifier_command)
    app.command("average")(average_command)
    app.command("combine")(combine_command)
    app.command("verify", epilog=_VERIFY_STATUS)(verify_command)
    app.command("verify-pairs")(verify_pairs_command)
    app.command("index")(index_command)
    app.command("search")(search_command)
    data = typer.Typer(help="Make training data and look after it.", no_args_is_help=True)
    data.command("check")(check_command)
    data.command("annotate")(annotate_command)
    data.command("import")(import_command)
    data.command("pack")(pack_command)
    data.command("pairs")(pairs_command)
    app.add_typer(data, name="data")
    encoder = typer.Typer(help="Train and measure encoders that say what is the same.", no_args_is_help=True)
    encoder.command("train")(encoder_train_command)
    encoder.command("oneshot")(oneshot_command)
    encoder.command("episodes")(episodes_command)
    encoder.command("pairs")(encoder_pairs_command)
    app.add_typer(encoder, name="encoder")
    return app


def _print_version(asked: bool) -> None:
    from tracker import __version__

    if asked:
        print(f"siamtrack {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that come before the command."""


def models_command() -> None:
    """List the models that come with siamtrack: what `track --model NAME` takes."""
    from rich.console import Console
    from rich.table import Table

    from tracker.zoo import zoo

    table = Table("model", "size", "update", "OTB AUC", "description", box=None, pad_edge=False)
    for card in zoo():
        speed, auc = card.metrics.get("update_ms"), card.metrics.get("otb_auc")
        table.add_row(
            card.name,
            f"{card.size_bytes / 1e6:.1f} MB",
            "-" if speed is None else f"{speed:.1f} ms",
            "-" if auc is None else f"{auc:.3f}",
            card.description,
        )
    Console().print(table)
