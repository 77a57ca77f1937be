import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tracker

ROOT = Path(__file__).parent.parent
PUBLIC = ("Box", "Prediction", "load_tracker", "load_verifier", "open_frames", "read_image", "track")


def run_python(code: str, folder: Path, path: str = "") -> str:
    """Run code in a fresh interpreter and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_can_be_imported(name: str) -> None:
    assert callable(getattr(tracker, name))
    assert name in tracker.__all__
    assert name in dir(tracker)


def test_all_names_nothing_else() -> None:
    assert sorted(tracker.__all__) == sorted(PUBLIC)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        tracker.no_such_name  # noqa: B018


def test_import_is_quick_because_it_loads_nothing_heavy() -> None:
    code = "import sys, tracker; tracker.Box; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(run_python(code, ROOT).split())
    assert "tracker" in loaded
    assert not loaded & {"torch", "cv2", "av", "numba", "safetensors", "rich", "typer"}


def test_version_is_the_one_of_the_installed_package_and_the_changelog() -> None:
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert tracker.__version__ == importlib.metadata.version("siamtrack") == newest[1]


def test_program_of_the_readme_runs() -> None:
    program = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    clip = ROOT / "tracker" / "assets" / "demo.mp4"
    lines = run_python(program[1].replace('"video.mp4"', f"{str(clip)!r}, end=5"), ROOT).splitlines()
    assert lines[0] == "132.0 111.0 95.0 87.0 1.00"
    assert len(lines) == 5


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_installed_wheel_holds_weights_configs_and_assets(tmp_path: Path) -> None:
    source, wheels, target = tmp_path / "source", tmp_path / "wheels", tmp_path / "target"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    for name in ("tracker", "weights", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, source], check=True)
    (wheel,) = wheels.glob("siamtrack-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)

    installed = target / "tracker"
    for folder, pattern in (("weights", "*.safetensors"), ("configs", "*.toml")):
        for inner in ("", "encoders"):
            expected = {path.name for path in (ROOT / folder / inner).glob(pattern)}
            assert expected
            assert {path.name for path in (installed / folder / inner).glob(pattern)} == expected
    graphs = {path.relative_to(ROOT / "weights") for path in (ROOT / "weights" / "graphs").rglob("*.onnx")}
    assert graphs
    assert {path.relative_to(installed / "weights") for path in installed.rglob("*.onnx")} == graphs
    assert {path.name for path in (installed / "assets").iterdir()} == {"demo.mp4", "demo_boxes.csv", "README.md"}
    assert (installed / "py.typed").exists()
    modules = {path.relative_to(ROOT / "tracker") for path in (ROOT / "tracker").rglob("*.py")}
    assert {path.relative_to(installed) for path in installed.rglob("*.py")} == modules

    code = "import tracker; from tracker.zoo import zoo; print(tracker.__file__, *(card.path for card in zoo()))"
    package, *weights = run_python(code, tmp_path, path=str(target)).split()
    assert Path(package) == installed / "__init__.py"
    assert weights
    assert all(Path(path).is_relative_to(installed / "weights") for path in weights)
