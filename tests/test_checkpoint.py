import dataclasses
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tracker import checkpoint
from tracker.checkpoint import Checkpoint

CONFIG = 'description = "é 🙂"\n'


def example() -> Checkpoint:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "conv.weight": torch.randn(4, 3, 5, 5, generator=generator),
        "conv.half": torch.randn(7, generator=generator).half(),
        "conv.brain": torch.randn(3, 3, generator=generator).bfloat16(),
        "norm.count": torch.tensor(12345),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }
    return Checkpoint(tensors, CONFIG, {"command": "siamtrack train x", "steps": "12"}, {"otb_auc": 0.5})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, example())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def header(path: Path) -> tuple[dict[str, dict[str, str]], bytes]:
    """Return the header of a safetensors file and its data: a length of 8 bytes, JSON, data."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def rewrite(path: Path, head: dict[str, dict[str, str]], data: bytes) -> None:
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_what_was_saved_is_loaded(path: Path) -> None:
    saved, loaded = example(), checkpoint.load(path)
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, tensor in saved.tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert loaded.tensors[name].shape == tensor.shape
        assert torch.equal(loaded.tensors[name], tensor)
    assert dataclasses.replace(loaded, tensors={}) == dataclasses.replace(saved, tensors={})


def test_layout_in_memory_does_not_matter(tmp_path: Path, path: Path) -> None:
    saved = example()
    shuffled = {name: tensor for name, tensor in reversed(saved.tensors.items())}
    shuffled["conv.weight"] = shuffled["conv.weight"].contiguous(memory_format=torch.channels_last)
    other = tmp_path / "other.safetensors"
    checkpoint.save(other, dataclasses.replace(saved, tensors=shuffled))
    assert torch.equal(checkpoint.load(other).tensors["conv.weight"], saved.tensors["conv.weight"])
    assert header(other)[0]["__metadata__"]["sha256"] == header(path)[0]["__metadata__"]["sha256"]


def test_folders_are_made_and_no_part_is_left(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a" / "model.safetensors"
    checkpoint.save(path, example())
    checkpoint.save(path, example())
    assert list(path.parent.iterdir()) == [path]


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path, path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_failing_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fill_the_disk(part: Path, content: bytes) -> None:
        with part.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(OSError, match=r"cannot write .*model.safetensors: .*No space left"):
        checkpoint.save(path, example())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_folder_in_the_way_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    (path / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="cannot write .*model.safetensors"):
        checkpoint.save(path, example())
    assert list(tmp_path.iterdir()) == [path]


def test_every_changed_byte_is_noticed(path: Path) -> None:
    raw = path.read_bytes()
    for at in [*range(0, len(raw), 29), len(raw) - 1]:
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        refusal(path)
    path.write_bytes(raw)
    checkpoint.load(path)


def test_changed_weight_is_called_that(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert "was changed after it was written (sha256 differs)" in refusal(path)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_truncated_file_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    assert "cannot read the weight file" in refusal(path)


@pytest.mark.parametrize("key", ["config", "provenance", "metrics", "sha256"])
def test_changed_or_missing_metadata_is_noticed(path: Path, key: str) -> None:
    head, data = header(path)
    rewrite(path, head, data)
    checkpoint.load(path)  # so it is the change that is noticed, not the rewriting
    head["__metadata__"][key] += " "
    rewrite(path, head, data)
    assert "was changed" in refusal(path)
    del head["__metadata__"][key]
    rewrite(path, head, data)
    assert "was changed" in refusal(path)


def test_changed_names_are_noticed(path: Path) -> None:
    checkpoint.save(path, dataclasses.replace(example(), tensors={"a": torch.ones(2), "b": torch.zeros(2)}))
    head, data = header(path)
    for names in (("b", "a"), ("a", "c")):
        renamed = dict(zip(names, (head["a"], head["b"]), strict=True))
        rewrite(path, {"__metadata__": head["__metadata__"], **renamed}, data)
        assert "was changed" in refusal(path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"format": "siamtrack-0"}])
def test_file_of_another_format_is_called_that(path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"a": torch.ones(2)}, path, metadata=metadata)
    assert "is no siamtrack weight file" in refusal(path)


def test_what_is_no_weight_file_at_all(path: Path) -> None:
    for content in (b"", b"PK\x03\x04 a pickle inside", b"\xff" * 64, b"description = 'text'\n" * 9):
        path.write_bytes(content)
        assert "cannot read the weight file" in refusal(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "cannot read the weight file" in refusal(tmp_path / "none.safetensors")
    assert "cannot read the weight file" in refusal(tmp_path)
