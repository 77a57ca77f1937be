"""Write a file in one step."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text: who reads sees the old file or the new one, also where this process is killed."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
