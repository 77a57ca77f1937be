"""How the benchmarks hand over what they measured: line by line, and as a file where one is asked for."""

import sys
from collections.abc import Iterable
from pathlib import Path


def publish(lines: Iterable[str], out: Path | None) -> int:
    """Print the lines as they come, then write them to `out`; return 2 after a one-line message for what went wrong.

    The folder of `out` is made before anything is measured.
    """
    written = []
    try:
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
        for line in lines:
            print(line, flush=True)
            written.append(line)
        if out:
            out.write_text("\n".join(written).rstrip() + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:  # ChildProcessError is an OSError
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
