"""Write files so that nothing else is lost: in one step, alone in a folder, and never in the place of what is read."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tracker.file_names import in_home

log = logging.getLogger(__name__)

LOCK = ".lock"  # in a folder that one process at a time works in
_WAIT_S = 10.0  # for what a killed process began, such as those that read ahead for it, to end as well
_LOCKLESS = (errno.ENOLCK, errno.EOPNOTSUPP)  # as some network disks answer


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an OSError into one that names the file that could not be written, on one line."""
    try:
        yield
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of another one in one step, or is gone where writing failed.

    It is this process's own: another one may write the same file.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes | memoryview) -> None:
    """Write a text or bytes: who reads sees the old file or the new one, also where this process is killed.

    Raises OSError naming a file that cannot be written; what was there is kept.
    """
    with naming(path), replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes out, as far as they ask: each would write over what another keeps there.

    To be entered before anything is read there: who waits would go on from what was. Raises ValueError where another
    one is inside. One that is killed is inside no longer. A disk that knows no locks is warned of.
    """
    from filelock import FileLock, Timeout

    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=_WAIT_S)
    with naming(folder / LOCK):
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(f"another process is at work in {folder}; let it end, or give another folder") from None
        except OSError as error:
            if error.errno not in _LOCKLESS:
                raise
            log.warning("the disk of %s knows no locks (%s): let no other process work there", folder, error.strerror)
    try:
        yield
    finally:
        lock.release()


def check_folder(output: Path) -> None:
    """Raise ValueError where the folder that an output is to lie in is not there."""
    folder = output.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"cannot write {output}: there is no folder {folder}")


def refuse_source(source: str, output: Path) -> None:
    """Raise ValueError where an output is the file that is read; a link to it is the same file."""
    same = False
    with suppress(OSError):  # one of them is not there, or is no path but a URL
        same = in_home(source).samefile(output)
    if same:
        raise ValueError(f"{output} is the source itself; write to another file")
