"""Write measured scores into a weight file, so that `siamtrack models` and the file's reader see them.

    python -m benchmarks.development --data DIR --model NAME --json scores.json
    python tools/record_scores.py weights/NAME.safetensors scores.json --update-ms 12.3

The tensors, the configuration and the provenance stay what they are; with --config the configuration is replaced, for
settings that were tuned after training.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from tracker import checkpoint
from tracker.config import parse

_PREFIXES = {"OTB": "otb", "UAV123_10fps": "uav", "clips": "clips"}


def record(weights: Path, scores: Path, update_ms: float | None, config: Path | None) -> None:
    """Rewrite the weight file with the means of each set in `scores`, as benchmarks.development writes them."""
    loaded = checkpoint.load(weights)
    metrics = {key: value for key, value in loaded.metrics.items() if key.startswith("verify_")}  # of another command
    for name, figures in json.loads(scores.read_text(encoding="utf-8"))["sets"].items():
        metrics[f"{_PREFIXES[name]}_auc"] = round(figures["success_auc"], 4)
        metrics[f"{_PREFIXES[name]}_precision"] = round(figures["precision"], 4)
    if update_ms is not None:
        metrics["update_ms"] = update_ms
    text = loaded.config
    if config is not None:
        text = config.read_text(encoding="utf-8")
        parse(text)  # a file that cannot be read back must not be written
    checkpoint.save(weights, dataclasses.replace(loaded, metrics=metrics, config=text))


def main() -> None:
    """Read the command line and record."""
    parser = argparse.ArgumentParser(description="Write measured scores into a weight file.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("scores", type=Path, help="what benchmarks.development wrote with --json")
    parser.add_argument("--update-ms", type=float, help="median of update(), from benchmarks.stages")
    parser.add_argument("--config", type=Path, help="replace the configuration in the file by this one")
    arguments = parser.parse_args()
    record(arguments.weights, arguments.scores, arguments.update_ms, arguments.config)


if __name__ == "__main__":
    main()
