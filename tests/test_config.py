import dataclasses
from pathlib import Path

import pytest

from tracker.config import Config, CropConfig, ModelConfig, parse
from tracker.toml_tree import to_toml

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.toml"))

TEXT = """
description = "test"
[model]
backbone = "siamfc_alexnet"
head = "siamfc"
[crop]
template_size = 127
search_size = 255
context = 0.5
[scale_search]
scales = 3
scale_step = 1.04
scale_penalty = 0.97
size_smoothing = 0.6
window_influence = 0.2
upsample = 16
[lost]
enter = 0.25
leave = 0.45
patience = 3
"""
TRAIN = """
[train]
pairs = 100
batch = 2
search_size = 191
label_radius = 16.0
lr_start = 0.01
lr_end = 1e-5
warmup_pairs = 10
momentum = 0.9
weight_decay = 0.0005
seed = 1
[train.data]
searches_per_template = 2
max_gap = 100
still_share = 0.2
negative_share = 0.1
same_class_share = 0.5
max_shift = 32.0
max_scale = 1.1
colour = 0.2
grey_chance = 0.15
blur_chance = 0.15
cover_chance = 0.1
[train.data.weights]
videos = 2.0
"of/stills" = 1
"""


def error(text: str, *overrides: str) -> str:
    with pytest.raises(ValueError) as caught:
        parse(text, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_are_configs_to_ship() -> None:
    assert "siamfc_alexnet" in [path.stem for path in CONFIGS]


def test_fine_tuning_changes_the_training_of_the_default_model_alone() -> None:
    tuned, base = (parse((CONFIGS[0].parent / f"{name}.toml").read_text()) for name in ("finetune", "siamrpn_mobile"))
    assert dataclasses.replace(tuned, description=base.description, train=base.train) == base
    assert tuned.train is not None and base.train is not None
    assert tuned.train.pairs < base.train.pairs / 20 and tuned.train.lr_start < base.train.lr_start


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_config_is_read_and_opens_with_its_recipe(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    config = parse(text)
    assert config.description
    assert text.startswith("# ")
    assert "\n# command:  " in text
    assert config.train is None or f"siamtrack train configs/{path.name}" in text
    assert parse(to_toml(config)) == config


def test_every_setting_is_read() -> None:
    config = parse(TEXT + TRAIN)
    assert config.description == "test"
    assert config.model == ModelConfig("siamfc_alexnet", "siamfc")
    assert config.crop == CropConfig(template_size=127, search_size=255, context=0.5)
    assert config.scale_search is not None
    assert config.scale_search.window_influence == 0.2
    assert config.lost.patience == 3
    assert config.train is not None
    assert config.train.lr_end == 1e-5
    assert config.train.data.weights == {"videos": 2.0, "of/stills": 1.0}


def test_what_a_tracker_does_not_need_may_be_left_out() -> None:
    assert parse(TEXT).train is None
    assert parse(TEXT).online is None


def test_table_is_left_out_by_false() -> None:
    online = (Path(__file__).parent.parent / "configs" / "resnet18_online.toml").read_text(encoding="utf-8")
    assert parse(online).online is not None
    assert parse(online, ["online=false"]).online is None
    with pytest.raises(ValueError, match=r"setting online must be a table, got True"):
        parse(online, ["online=true"])


def test_config_cannot_be_changed() -> None:
    config = parse(TEXT)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.description = "other"  # type: ignore[misc]


@pytest.mark.parametrize("wrong", ["[crop", "a = 1\na = 2", "description = test"])
def test_what_is_no_toml_is_said_so(wrong: str) -> None:
    assert "not TOML" in error(wrong)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("colour=1", "unknown setting colour; known here: description, "),
        ("crop.margin=1", "unknown setting crop.margin; known here: template_size"),
        ("train.data.max_jump=1", "unknown setting train.data.max_jump"),
        ("crop.margin.left=1", "unknown setting crop.margin"),
        (
            "model.backbone=vgg",
            "setting model.backbone must be one of siamfc_alexnet, resnet18, mobilenetv3_small, efficientnet_lite0, "
            "got 'vgg'",
        ),
        ("model.backbone=3", "setting model.backbone must be one of"),
        ("crop.template_size=big", "setting crop.template_size must be int, got 'big'"),
        ("crop.template_size=127.0", "setting crop.template_size must be int, got 127.0"),
        ("crop.template_size=true", "setting crop.template_size must be int, got True"),
        ("crop.context=true", "setting crop.context must be float, got True"),
        ("crop.context='0.5'", "setting crop.context must be float, got '0.5'"),
        ("crop.context=", "setting crop.context must be float, got ''"),
        ("crop.context=nan", "setting crop.context must be float, got nan"),
        ("train.data.weights.videos=-nan", "setting train.data.weights.videos must be float, got nan"),
        (f"crop.context=1{'0' * 400}", "setting crop.context must be float, got 1000"),
        ("description=3", "setting description must be str, got 3"),
        ("crop=3", "setting crop must be a table, got 3"),
        ("train.data.weights=3", "setting train.data.weights must be a table, got 3"),
        ("train.data.weights.videos=many", "setting train.data.weights.videos must be float, got 'many'"),
        ("crop.context", "override must read a.b=value, got 'crop.context'"),
        ("", "override must read a.b=value, got ''"),
        ("description.length=3", "description.length: description is not a table"),
        ("crop.context.share=3", "crop.context.share: context is not a table"),
    ],
)
def test_wrong_setting_is_named_in_full(override: str, complaint: str) -> None:
    assert complaint in error(TEXT + TRAIN, override)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("description = ", "description"),
        ("context = ", "crop.context"),
        ("seed = ", "train.seed"),
        ("blur_chance = ", "train.data.blur_chance"),
    ],
)
def test_missing_setting_is_named_in_full(line: str, name: str) -> None:
    lines = (TEXT + TRAIN).splitlines()
    kept = [each for each in lines if not each.startswith(line)]
    assert len(kept) == len(lines) - 1
    assert error("\n".join(kept)) == f"setting {name} is missing"


def test_missing_table_is_named() -> None:
    assert error(TEXT.partition("[lost]")[0]) == "setting lost is missing"
    assert error(TEXT + "[train]\n") == "setting train.pairs is missing"


def test_error_in_the_text_is_named_like_one_in_an_override() -> None:
    assert error(TEXT.replace("context", "margin")).startswith("unknown setting crop.margin; known here:")


def test_whole_number_serves_as_float_and_becomes_one() -> None:
    enter = parse(TEXT, ["lost.enter=1"]).lost.enter
    assert enter == 1.0
    assert type(enter) is float


@pytest.mark.parametrize(("text", "value"), [(".25", 0.25), ("+.5", 0.5), ("2.", 2.0), ("1e-1", 0.1), ("0.25", 0.25)])
def test_numbers_may_be_written_short(text: str, value: float) -> None:
    crop = parse(TEXT, [f"crop.context={text}"]).crop
    assert crop is not None and crop.context == value


def test_overrides_are_applied_in_order() -> None:
    changes = ["lost.enter=0.25", "description=two words", "lost.enter=0.75"]
    changed = parse(TEXT, changes)
    assert changed.lost.enter == 0.75
    assert changed.description == "two words"
    weights = parse(TEXT + TRAIN, ["train.data.weights.new=0.5"]).train
    assert weights is not None
    assert weights.data.weights == {"videos": 2.0, "of/stills": 1.0, "new": 0.5}


@pytest.mark.parametrize("text", [TEXT, TEXT + TRAIN], ids=["tracking", "training"])
def test_text_of_a_config_is_read_back(text: str) -> None:
    config = parse(text)
    assert parse(to_toml(config)) == config


def test_text_of_a_config_keeps_odd_values() -> None:
    config = parse(TEXT, ["crop.context=1e-05", "lost.enter=inf", "lost.leave=-0.0"])
    odd = dataclasses.replace(config, description='quote ", back \\ slash,\nline, tab\t, é, 🙂 [table] # no comment')
    again = parse(to_toml(odd))
    assert again == odd
    assert isinstance(again, Config)
