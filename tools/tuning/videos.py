"""What settings are tried on: the development sequences, whole and from other starts, as pictures decoded once."""

import hashlib
import json
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

import tracker
from benchmarks.certainty import make_videos
from tracker.builder import Loaded, RuntimeName, assemble, choose_runtime, load_runtime
from tracker.config import Config, parse
from tracker.data.sequence import Sequence
from tracker.evaluation import read_frame
from tracker.interface import Frame, Tracker
from tracker.metrics import average_overlap, success_auc
from tracker.toml_tree import to_toml
from tracker.whole_file import replacing, write_whole
from tracker.zoo import find_file

KINDS = ("whole", "starts")
Scores = dict[str, dict[str, tuple[float, float]]]  # by group and kind: success AUC and mean overlap


@dataclass(frozen=True, slots=True)
class Group:
    """Hold the videos that are made of one sequence, by kind: they are no independent witnesses."""

    name: str  # set/sequence
    set_name: str
    videos: Mapping[str, Items[Sequence]]

    @property
    def frames(self) -> int:
        """Return how many frames are to be tracked."""
        return sum(len(video.image_paths) for videos in self.videos.values() for video in videos)


def make_groups(sets: Mapping[str, Items[Sequence]], kinds: Items[str], frames: int | None) -> list[Group]:
    """Return the groups in the order in which they are tried: the sets mixed evenly, the shortest of each first.

    So a trial that is stopped early has cost little, and has been seen on every set. `frames` cuts each video.
    """
    places: list[tuple[float, Group]] = []
    for set_name, sequences in sets.items():
        groups = []
        for sequence in sequences:
            made = make_videos({set_name: [sequence]})
            videos = {kind: [video.head(frames or len(video.image_paths)) for video in made[kind]] for kind in kinds}
            filled = {kind: found for kind, found in videos.items() if found}
            groups.append(Group(f"{set_name}/{sequence.name}", set_name, filled))
        groups.sort(key=lambda group: group.frames)
        places += [((at + 0.5) / len(groups), group) for at, group in enumerate(groups)]
    return [group for _, group in sorted(places, key=lambda place: place[0])]


def data_print(groups: Items[Group]) -> str:
    """Return what tells these videos from others: a short hash of their pictures' names and sizes, and their boxes."""
    digest = hashlib.sha256()
    for group in groups:
        for kind, video in ((kind, video) for kind, videos in group.videos.items() for video in videos):
            digest.update(f"{group.name} {kind} {video.name}".encode())
            digest.update(video.boxes_xywh.tobytes())
    for path in _pictures(groups):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()[:12]


def model_print(model: str, runtime: RuntimeName) -> str:
    """Return what tells a model from others: a short hash of its weights or, where they run, its graphs."""
    file = find_file(model, choose_runtime(model, "cpu", runtime))  # a card of graphs holds their hashes
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def code_print() -> str:
    """Return what tells the tracker's code from others: a short hash of the package's modules."""
    package = Path(tracker.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _pictures(groups: Items[Group]) -> list[Path]:
    """Return the pictures of the groups, each once."""
    videos = chain.from_iterable(chain.from_iterable(group.videos.values()) for group in groups)
    return sorted({path for video in videos for path in video.image_paths})


class FrameStore:
    """Read decoded pictures from one file, which all processes map: it is in memory once, or as far as it fits."""

    def __init__(self, file: Path) -> None:
        """Open the file that `store_frames` wrote."""
        index = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        self._places: dict[str, tuple[int, int, int]] = {path: tuple(place) for path, place in index.items()}
        self._bytes = np.memmap(file, np.uint8, "r")

    def read(self, path: Path) -> Frame:
        """Return a picture as `evaluation.read_frame` does, not to be written to."""
        first, height, width = self._places[str(path)]
        return np.asarray(self._bytes[first : first + height * width * 3]).reshape(height, width, 3)


def store_frames(groups: Items[Group], folder: Path, limit_gb: float) -> Path:
    """Decode the pictures of the groups into a file for `FrameStore`, where it is not there yet; return the file.

    Raises ValueError where it would be larger than the limit.
    """
    pictures = _pictures(groups)
    names = hashlib.sha256("\n".join(f"{path} {path.stat().st_size}" for path in pictures).encode()).hexdigest()
    file = folder / f"frames-{names[:12]}.bin"
    index_file = file.with_suffix(".json")
    if file.is_file() and index_file.is_file():  # the index is written last
        return file
    firsts = {path.parent: path for path in reversed(pictures)}  # frames of a folder are of a size, or nearly
    sizes = {parent: read_frame(path).nbytes for parent, path in firsts.items()}
    expected_gb = sum(sizes[path.parent] for path in pictures) / 1e9
    if expected_gb > limit_gb:
        raise ValueError(
            f"{len(pictures)} decoded pictures take {expected_gb:.1f} GB, more than the limit of {limit_gb:g}: "
            "allow more with --store-gb, cut the videos with --frames, or decode in every trial with --store-gb 0"
        )
    places, end = {}, 0
    with replacing(file) as part, part.open("wb") as out:
        for path in pictures:
            frame = read_frame(path)
            places[str(path)] = (end, *frame.shape[:2])
            end += out.write(frame.tobytes())
    write_whole(index_file, json.dumps(places))
    return file


class TrackerMaker:
    """Make trackers that differ in settings and share a network, as long as the settings are none of the network's."""

    def __init__(self, model: str, overrides: Items[str], runtime: RuntimeName) -> None:
        """Load the model on the CPU, for one thread. Raises ValueError as `builder.load_tracker` does."""
        self._model, self._overrides, self._runtime = model, overrides, runtime
        loaded = self._load(())
        self.config = loaded.config
        self._loaded = {_of_network(loaded.config): loaded}

    def make(self, overrides: tuple[str, ...]) -> Tracker:
        """Return a tracker with settings changed. Raises ValueError naming what is wrong."""
        config = parse(to_toml(self.config), overrides)
        key = _of_network(config)
        if key not in self._loaded:
            self._loaded[key] = self._load(overrides)
        return assemble(self._loaded[key].runtime, config)

    def _load(self, overrides: tuple[str, ...]) -> Loaded:
        return load_runtime(self._model, "cpu", (*self._overrides, *overrides), self._runtime, 1)


def _of_network(config: Config) -> object:
    """Return the settings with which a network is loaded."""
    return config.model, config.crop, config.fine_weight


def follow_group(follower: Tracker, group: Group, read: Callable[[Path], Frame]) -> dict[str, tuple[float, float]]:
    """Return success AUC and mean overlap of each kind of a group's videos, each video counting once."""
    found = {}
    for kind, videos in group.videos.items():
        values = [_follow(follower, video, read) for video in videos]
        auc, overlap = np.mean(values, axis=0).tolist()
        found[kind] = (auc, overlap)
    return found


def _follow(follower: Tracker, video: Sequence, read: Callable[[Path], Frame]) -> tuple[float, float]:
    first = video.first_box()
    follower.init(read(video.image_paths[0]), first)
    boxes = [first.to_xywh(), *(follower.update(read(path)).box.to_xywh() for path in video.image_paths[1:])]
    rows = np.array(boxes, dtype=np.float64)
    return success_auc(rows, video.boxes_xywh), average_overlap(rows, video.boxes_xywh)
