"""What a weight file tells of the run that made it: the code, the machine and the files."""

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import torch


def short_name(path: Path | str) -> str:
    """Return folder and name of a path or URL: enough to tell what was used, and nothing of the machine."""
    parts = path.resolve().parts if isinstance(path, Path) else urlsplit(path).path.strip("/").split("/")
    return "/".join(parts[-2:])


def hardware() -> str:
    """Return the name of the GPU, or of the CPU with the number of threads."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    told: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not say
    return f"{told.get('cpu_name', 'CPU')}, threads: {torch.get_num_threads()}"


def revision() -> str:
    """Return the commit that the code was run from, with "-dirty" where it was changed since."""
    git = ["git", "-C", str(Path(__file__).parents[2]), "--git-dir=.git", "--work-tree=."]  # no repository around it
    try:
        commit = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def shrunk(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor in half precision, if it is of floating point and in the range."""
    half = tensor.half()
    return half if tensor.is_floating_point() and bool(half.isfinite().all()) else tensor
