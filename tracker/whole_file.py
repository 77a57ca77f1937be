"""Write files so that nothing else is lost: in one step, and never in the place of what is read."""

from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text: who reads sees the old file or the new one, also where this process is killed."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def refuse_source(source: str, output: Path) -> None:
    """Raise ValueError where an output is the file that is read; a link to it is the same file."""
    same = False
    with suppress(OSError):  # one of them is not there, or is no path but a URL
        same = Path(source).expanduser().samefile(output)
    if same:
        raise ValueError(f"{output} is the source itself; write to another file")
