from pathlib import Path

import pytest

from tracker.whole_file import refuse_source


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
