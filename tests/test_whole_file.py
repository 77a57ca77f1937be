import errno
import os
import sys
from pathlib import Path

import pytest

from tracker.whole_file import LOCK, alone_in, refuse_source, replacing, write_whole


def test_source_is_refused_under_each_of_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"video")
    (tmp_path / "link.mp4").symlink_to(clip)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source, output in ((str(clip), clip), (str(clip), tmp_path / "link.mp4"), ("~/clip.mp4", clip)):
        with pytest.raises(ValueError, match=f"{output.name} is the source itself; write to another file"):
            refuse_source(source, output)


def test_other_files_and_urls_are_not_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    (tmp_path / "b.mp4").write_bytes(b"video")
    for source, output in (("a.mp4", "b.mp4"), ("a.mp4", "new.mp4"), ("none.mp4", "none.mp4")):
        refuse_source(str(tmp_path / source), tmp_path / output)
    refuse_source("https://host/a.mp4", tmp_path / "a.mp4")
    refuse_source("~nobody.mp4", tmp_path / "a.mp4")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX locks")
def test_a_disk_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with alone_in(tmp_path / "new"), alone_in(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    told = f"the disk of {tmp_path / 'new'} knows no locks (No locks available): let no other process work there"
    assert caplog.messages == [told, told]


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(OSError, match=r"cannot write .*\.lock: Is a directory"), alone_in(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write .*file: File exists"), alone_in(tmp_path / "file"):
        pass


@pytest.mark.parametrize("content", ["text", b"bytes"])
def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, content: str | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    write_whole(path, "before")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=r"cannot write .*file\.txt: No space left on device$"):
            write_whole(path, content)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    write_whole(path, content)
    assert path.read_text() == (content if isinstance(content, str) else content.decode())


def test_what_is_stopped_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_whole(path, "before")
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_processes_that_write_one_file_have_a_part_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    with replacing(path) as ours:
        monkeypatch.setattr(os, "getpid", lambda: 0)
        write_whole(path, "of another process")
        ours.write_text("ours")
    assert path.read_text() == "ours" and list(tmp_path.iterdir()) == [path]
