"""Build the `siamtrack` distribution; what it needs is stated as ranges here and pinned in constraints.txt."""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def read_version() -> str:
    """Return `__version__` from tracker/__init__.py without importing the package."""
    text = (ROOT / "tracker" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise ValueError('tracker/__init__.py states no version; add the line __version__ = "x.y.z"')
    return found[1]


setup(
    name="siamtrack",
    version=read_version(),
    description="Siamese visual object tracking: mark an object in one frame, follow it through the video",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    # Weights and configs are top-level folders of the repository, where people look for them; in an installed copy they
    # lie inside the package, where the code finds them.
    packages=[
        "tracker",
        "tracker.data",
        "tracker.models",
        "tracker.training",
        "tracker.assets",
        "tracker.weights",
        "tracker.configs",
    ],
    package_dir={"tracker": "tracker", "tracker.weights": "weights", "tracker.configs": "configs"},
    package_data={
        "tracker": ["py.typed"],
        "tracker.assets": ["demo.mp4", "demo_boxes.csv", "README.md"],
        "tracker.weights": ["*.safetensors", "README.md", "graphs/*/*", "encoders/*"],
        "tracker.configs": ["*.toml", "encoders/*.toml"],
    },
    install_requires=[
        "av>=14",
        "filelock>=3.13",
        "numpy>=2",
        "onnxruntime>=1.20",
        # The headless build: opencv-python also needs the system's libGL, which bare servers lack.
        "opencv-python-headless>=4.11",
        "rich>=13",
        "safetensors>=0.5",
        "threadpoolctl>=3.5",
        "tomli>=2; python_version < '3.11'",
        "typer>=0.28",
    ],
    extras_require={
        "live": ["pygame-ce>=2.5"],
        "eval": [
            "got10k>=0.1.3",
            "matplotlib>=3.9",
            "pillow>=10",
            "six>=1.16",  # got10k imports it without saying so
        ],
        # For s3://; other stores ask for the package that they need. No part of constraints.txt: botocore needs a
        # python-dateutil below 3.
        "cloud": ["fsspec>=2024.6", "s3fs>=2024.6"],
        "openvino": ["openvino>=2025.0"],
        "ray": ["ray[client]>=2.9"],  # the client speaks to clusters at ray:// addresses
        "torch": ["torch>=2.6"],
        "export": ["onnx>=1.17", "onnxscript>=0.5", "torch>=2.6"],
        "train": ["numba>=0.61", "tensorboard>=2.18", "torch>=2.6"],
        "tune": [
            "optuna>=5",
            "scipy>=1.13",  # its pruner needs it, and does not say so
        ],
        "dev": [
            "build>=1.2",
            "mypy>=1.15",
            "pytest>=8.3",
            "pytest-timeout>=2.3",
            "pytorch-metric-learning>=2.8",  # whose losses and miners ours are compared with
            "ruff>=0.9",
            "scikit-image>=0.25",  # its photographs make the demo clip
            "scikit-learn>=1.6",  # its digits are learned in a test, its ROC curves are the truth of ours
        ],
    },
    entry_points={"console_scripts": ["siamtrack = tracker.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
