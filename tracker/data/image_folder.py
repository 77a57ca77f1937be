"""Readers of class folders: class/*.png and the like are pictures, class/clip/*.png clips, class/*.npy sequences."""

from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from tracker.data.labelled import LabelledSamples, gather, read_picture
from tracker.file_names import natural_order

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def read_pictures(root: Path, size: int, channels: int) -> LabelledSamples:
    """Read one class a folder, by name, its pictures in any colour mode and size, see `labelled.decode_picture`.

    Raises ValueError naming a folder without pictures and a picture that cannot be read.
    """
    return gather(
        [(folder.name, [read_picture(path, size, channels) for path in _pictures(folder)]) for folder in _folders(root)]
    )


def read_clips(root: Path, size: int, channels: int) -> LabelledSamples:
    """Read one class a folder, in it one clip a folder, in that the frames as pictures, in natural order.

    Raises ValueError as `read_pictures` does.
    """
    return gather(
        [(folder.name, [_clip(clip, size, channels) for clip in _folders(folder)]) for folder in _folders(root)]
    )


def read_sequences(root: Path, channels: int) -> LabelledSamples:
    """Read one class a folder, its sequences as .npy files of (T, channels) numbers.

    Raises ValueError naming a folder without sequences, and a file that holds anything else or what is not finite.
    """
    found = []
    for folder in _folders(root):
        paths = sorted(path for path in _shown(folder) if path.suffix == ".npy")
        if not paths:
            raise ValueError(f"the class folder {folder} holds no sequences (*.npy)")
        found.append((folder.name, [_sequence(path, channels) for path in paths]))
    return gather(found)


def _clip(folder: Path, size: int, channels: int) -> NDArray[np.generic]:
    return np.stack([read_picture(path, size, channels) for path in _pictures(folder)])


def _sequence(path: Path, channels: int) -> NDArray[np.generic]:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TokenError) as error:  # the last two of a damaged header
        raise ValueError(f"cannot read the sequence {path}: {error}") from error
    if not isinstance(values, np.ndarray):  # .npz by another name
        raise ValueError(f"{path} should hold one array, it is an archive of them")
    if values.ndim != 2 or values.shape[1] != channels or not len(values) or values.dtype.kind not in "fiu":
        raise ValueError(f"{path} should hold numbers (T, {channels}), has {values.dtype} {values.shape}")
    with np.errstate(over="ignore"):
        narrow = np.asarray(values, np.float32)
    if not np.isfinite(narrow).all():
        raise ValueError(f"{path} holds values that are not finite in float32")
    return narrow


def _shown(folder: Path) -> list[Path]:
    """Return what a folder holds but for hidden things, which programs leave behind: no classes and no pictures."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _folders(root: Path) -> list[Path]:
    folders = sorted(path for path in _shown(root) if path.is_dir()) if root.is_dir() else []
    if not folders:
        raise ValueError(f"{root} holds no folders; expected one a class")
    return folders


def _pictures(folder: Path) -> list[Path]:
    paths = natural_order(path for path in _shown(folder) if path.suffix.lower() in PICTURES)
    if not paths:
        raise ValueError(f"the folder {folder} holds no pictures ({', '.join(PICTURES)})")
    return paths
