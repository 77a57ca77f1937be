import json
from pathlib import Path

import pytest

from tracker.geometry import Box
from tracker.manifest import VideoJob, read_manifest

HEADER = "video,x,y,w,h"


def listing(folder: Path, text: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def job(name: str, video: str, *boxes: tuple[float, ...], start: int = 0, end: int | None = None) -> VideoJob:
    return VideoJob(name, video, tuple(Box.from_xywh(*box) for box in boxes), start, end)


def test_paths_are_relative_to_the_list_and_names_are_those_of_the_videos(tmp_path: Path) -> None:
    path = listing(tmp_path, f"{HEADER}\nclips/a.mp4,1,2,3,4\n/far/b.mkv,1.5,-2,3,4\nhttp://x/c.mp4?d=1.2,1,2,3,4\n")
    assert read_manifest(path) == [
        job("a", str(tmp_path / "clips" / "a.mp4"), (1, 2, 3, 4)),
        job("b", "/far/b.mkv", (1.5, -2, 3, 4)),
        job("c", "http://x/c.mp4?d=1.2", (1, 2, 3, 4)),
    ]


def videos_of(path: Path) -> list[str]:
    return [each.video for each in read_manifest(path)]


def test_a_name_may_begin_as_that_of_a_home_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    path = listing(tmp_path, f"{HEADER}\n~clip.mp4,1,2,3,4\n~/b.mp4,1,2,3,4\n")
    assert videos_of(path) == [str(tmp_path / "~clip.mp4"), "/home/me/b.mp4"]


def test_a_pattern_is_what_the_row_says_and_not_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "day [1]"
    image = folder / "img [2]" / "0.png"
    image.parent.mkdir(parents=True)
    image.touch()
    text = f"{HEADER},name\nimg*/*.png,1,2,3,4,all\nimg [2],1,2,3,4,\na.mp4,1,2,3,4,\n"
    pattern, *plain = videos_of(listing(folder, text))
    assert list(Path("/").glob(pattern.removeprefix("/"))) == [image]
    assert plain == [str(image.parent), str(folder / "a.mp4")]


def test_a_number_is_a_file_and_no_webcam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listing(tmp_path, f"{HEADER}\n0,1,2,3,4\n")
    (only,) = read_manifest(Path("list.csv"))
    assert only.video == str(tmp_path / "0")


def test_rows_of_one_pass_are_its_targets(tmp_path: Path) -> None:
    text = (
        "name, start,end,h,w,y,x,video\n"  # in any order, with blanks and a blank line
        "one,5,9,4,3,2,1,a.mp4\n\n"
        ",5,9,8,7,6,5,a.mp4\n"
        ",,9,4,3,2,1,a.mp4\n"
        "one more,0,,4,3,2,1,a.mp4\n"
        "one,5,9,1,1,1,1,./a.mp4\n"
    )
    video = str(tmp_path / "a.mp4")
    assert read_manifest(listing(tmp_path, text)) == [
        job("one", video, (1, 2, 3, 4), (5, 6, 7, 8), (1, 1, 1, 1), start=5, end=9),
        job("a_0-9", video, (1, 2, 3, 4), end=9),
        job("one more", video, (1, 2, 3, 4)),
    ]


def test_json_lines_say_the_same(tmp_path: Path) -> None:
    row = {"video": "a.mp4", "x": 1, "y": 2.5, "w": 3, "h": 4}
    table = listing(tmp_path, f"{HEADER},start,end,name\na.mp4,1,2.5,3,4,2,5,n\n")
    full = {**row, "start": 2, "end": 5, "name": "n"}
    assert read_manifest(listing(tmp_path, json.dumps(full) + "\n", "list.jsonl")) == read_manifest(table)
    left_out = {**row, "start": None, "name": None}
    (only,) = read_manifest(listing(tmp_path, "\n" + json.dumps(left_out), "list.jsonl"))
    assert (only.name, only.start, only.end) == ("a", 0, None)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("a.mp4,1,2,0,4", "line 2: a box must have a positive width and height, got w,h = 0,4"),
        ("a.mp4,1,2,3,", "line 2: h must be a finite number, got ''"),
        ("a.mp4,1,nan,3,4", "line 2: y must be a finite number, got 'nan'"),
        (",1,2,3,4", "line 2: video is empty"),
        ("a.mp4,1,2,3", "line 2: 4 cells under a header of 5"),
        ("a.mp4,1,2,3,4,5", "line 2: 6 cells under a header of 5"),
        ("x/a.mp4,1,2,3,4\n\nx/b.mp4,1,2,3,4\ny/A.avi,1,2,3,4", "line 5: the name 'A' is that of line 2"),
        ("results.mp4,1,2,3,4", "line 2: the results cannot be called 'results'"),
        ("*.png,1,2,3,4", "line 2: the results cannot be called '*'"),
        (f"{'a' * 201}.mp4,1,2,3,4", "line 2: the results cannot be called 'aaa"),
        ("", "lists no videos"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, rows: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"list\.csv") as raised:
        read_manifest(listing(tmp_path, f"{HEADER}\n{rows}\n"))
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ("5,5,", "line 2: end must be greater than start, got start 5 and end 5"),
        ("-1,,", "line 2: start must be a whole number of 0 or more, got '-1'"),
        (",2.5,", "line 2: end must be a whole number of 0 or more, got '2.5'"),
        (",,../up", "line 2: the results cannot be called '../up'"),
        (",,one\na.mp4,1,2,3,4,,,two", "line 3: the name 'two', but line 2 calls the same video, start and end 'one'"),
    ],
)
def test_wrong_passes_are_named_too(tmp_path: Path, cells: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"list\.csv, ") as raised:
        read_manifest(listing(tmp_path, f"{HEADER},start,end,name\na.mp4,1,2,3,4,{cells}\n"))
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("video,x,y,w\n", "line 1: the header lacks h"),
        ("", "line 1: the header lacks video, x, y, w, h"),
        (f"{HEADER},h\n", "line 1: the header has h twice"),
        (f"{HEADER},stop\n", "line 1: the header has the unknown 'stop'"),
    ],
)
def test_wrong_headers(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_manifest(listing(tmp_path, text))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: no JSON"),
        ("[1]", "line 2: expected an object with the keys video, x, y, w, h"),
        ('{"video": "a", "x": 1, "y": 2, "w": 3, "h": true}', "line 2: h must be a finite number, got True"),
        ('{"video": "a", "x": 1, "y": 2, "w": 3, "h": 1e999}', "line 2: h must be a finite number, got inf"),
        ('{"video": 7, "x": 1, "y": 2, "w": 3, "h": 4}', "line 2: video must be text, got 7"),
        ('{"video": "a", "x": 1, "y": 2, "w": 3, "h": 4, "start": true}', "line 2: start must be a whole number"),
        ('{"video": "a", "x": 1, "y": 2, "w": 3, "h": 4, "box": 1}', "line 2: the row has the unknown 'box'"),
    ],
)
def test_wrong_json_lines(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"list\.jsonl, ") as raised:
        read_manifest(listing(tmp_path, f"\n{line}\n", "list.jsonl"))
    assert told in str(raised.value)


def test_other_files_are_no_lists(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"list\.txt: the name of a list of videos must end in \.csv or \.jsonl"):
        read_manifest(tmp_path / "list.txt")
    with pytest.raises(ValueError, match=r"cannot read .*gone\.csv: No such file"):
        read_manifest(tmp_path / "gone.csv")
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\n\xe9.mp4,1,2,3,4\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.csv is no list of videos in UTF-8"):
        read_manifest(tmp_path / "latin.csv")


def test_the_digest_tells_what_was_changed() -> None:
    jobs = [
        job("a", "/a.mp4", (1, 2, 3, 4)),
        job("b", "/a.mp4", (1, 2, 3, 4)),
        job("a", "/b.mp4", (1, 2, 3, 4)),
        job("a", "/a.mp4", (1, 2, 3, 5)),
        job("a", "/a.mp4", (1, 2, 3, 4), (1, 2, 3, 4)),
        job("a", "/a.mp4", (1, 2, 3, 4), start=1),
        job("a", "/a.mp4", (1, 2, 3, 4), end=1),
    ]
    assert len({each.digest() for each in jobs}) == len(jobs)
    assert jobs[0].digest() == job("a", "/a.mp4", (1, 2, 3, 4)).digest()
