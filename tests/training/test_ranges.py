from pathlib import Path

import pytest

from tests.test_config import TEXT, TRAIN
from tests.test_encoder_builder import TEXT as ENCODER
from tracker.config import parse
from tracker.encoder_config import EncoderConfig
from tracker.toml_tree import read
from tracker.training.ranges import check_encoder, check_training

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_what_ships_is_in_range(path: Path) -> None:
    config = parse(path.read_text(encoding="utf-8"))
    if config.train is not None:
        check_training(config)


@pytest.mark.parametrize("path", sorted((CONFIGS / "encoders").glob("*.toml")), ids=lambda path: path.stem)
def test_encoders_that_ship_are_in_range(path: Path) -> None:
    check_encoder(read(EncoderConfig, path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("crop.template_size=0", "crop.template_size must be 1 or more, got 0"),
        ("train.batch=0", "train.batch must be 1 or more, got 0"),
        ("train.search_size=0", "train.search_size must be 1 or more, got 0"),
        ("train.lr_start=0", "train.lr_start must be above 0, got 0.0"),
        ("train.lr_start=nan", "setting train.lr_start must be float, got nan"),
        ("train.lr_start=inf", "train.lr_start must be above 0, got inf"),
        ("train.lr_end=0", "train.lr_end, where the fall is geometric, must be above 0, got 0.0"),
        ("train.lr_end=-1", "train.lr_end must not be negative, got -1.0"),
        ("train.clip_norm=-1", "train.clip_norm must not be negative, got -1.0"),
        ("train.backbone_lr=-1", "train.backbone_lr must not be negative, got -1.0"),
        ("train.seed=-1", "train.seed must not be negative, got -1"),
        ("train.ema=1", "train.ema must be 0 or more and less than 1, got 1.0"),
        ("train.refine_weight=-1", "train.refine_weight must not be negative, got -1.0"),
        ("train.warmup_pairs=101", "train.warmup_pairs = 101 must not be more than train.pairs = 100"),
        ("train.data.searches_per_template=0", "train.data.searches_per_template must be 1 or more, got 0"),
        ("train.data.max_scale=0", "train.data.max_scale must be 1 or more, got 0.0"),
        ("train.data.max_gap=-1", "train.data.max_gap must not be negative, got -1"),
        ("train.data.negative_share=2", "train.data.negative_share must be 0 to 1, got 2.0"),
        ("train.data.camera_dark=-0.1", "train.data.camera_dark must be 0 to 1, got -0.1"),
        ("train.data.camera_coarse=1.5", "train.data.camera_coarse must be 0 to 1, got 1.5"),
        ("train.data.weights.videos=nan", "setting train.data.weights.videos must be float, got nan"),
        ("train.data.weights={''=-1.0}", "train.data.weights.'' must not be negative, got -1.0"),
    ],
)
def test_setting_out_of_range_is_named(change: str, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_training(parse(TEXT + TRAIN, [change]))
    assert str(caught.value).startswith(complaint)


def test_what_only_a_geometric_fall_needs_is_asked_of_no_other() -> None:
    check_training(parse(TEXT + TRAIN, ["train.lr_end=0", "train.lr_fall=cosine"]))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (("model.width=0",), "model.width must be 1 or more, got 0"),
        (("data.size=0",), "data.size must be 8 or more, to be halved three times, got 0"),
        (("train.steps=0",), "train.steps must be 1 or more, got 0"),
        (("train.warmup_steps=5",), "train.warmup_steps = 5 must not be more than train.steps = 4"),
        (
            ("train.loss=quadruplet", "train.classes=2"),
            "train.classes must be 3 or more for the loss quadruplet, got 2",
        ),
        (
            ("train.distortion={rotate=nan,shear=0.0,scale=0.0,shift=0.0,bend=0.0,stroke_chance=0.0}",),
            "setting train.distortion.rotate must be float, got nan",
        ),
    ],
)
def test_setting_of_an_encoder_out_of_range_is_named(changes: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_encoder(read(EncoderConfig, ENCODER, changes))
    assert str(caught.value) == complaint


def test_sequences_have_no_size() -> None:
    check_encoder(read(EncoderConfig, ENCODER, ["data.layout=sequences", "data.size=0", "model.encoder=lstm"]))
