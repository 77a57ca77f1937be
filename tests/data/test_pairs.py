from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tracker.data.augment import Camera
from tracker.data.pairs import PairConfig, PairDataset, Pairs, to_batch
from tracker.data.tracks import ObjectTrack, TrackFrame

PLAIN = PairConfig(
    template_size=32,
    search_size=64,
    context=0.5,
    searches_per_template=2,
    max_gap=100,
    still_share=0.0,
    negative_share=0.0,
    same_class_share=0.5,
    max_shift=14.0,
    max_scale=1.3,
    colour=0.0,
    grey_chance=0.0,
    blur_chance=0.0,
    cover_chance=0.0,
    template_shift=3.5,
    template_max_scale=1.3,
    max_stretch=1.0,
    distractor_chance=0.0,
    background_chance=0.0,
)
RICH = replace(
    PLAIN,
    negative_share=0.3,
    colour=0.3,
    grey_chance=0.3,
    blur_chance=0.3,
    cover_chance=0.3,
    max_stretch=1.2,
    distractor_chance=0.5,
    background_chance=0.5,
)
SIZE_HW = (60, 80)
RED, GREEN, BLUE, YELLOW = (220, 20, 20), (20, 220, 20), (20, 20, 220), (220, 220, 20)
NAMES = {RED: "red", GREEN: "green", BLUE: "blue", YELLOW: "yellow"}


def make_track(
    folder: Path,
    colour: tuple[int, int, int],
    frames: int = 1,
    video: str = "",
    source: str = "set",
    label: str = "thing",
) -> ObjectTrack:
    """Draw a square of one colour, its right half a bit darker, on grey noise; it moves and grows."""
    name = NAMES[colour]
    rng = np.random.default_rng(len(name))
    shown = []
    for i in range(frames):
        image = np.repeat(rng.integers(60, 90, (*SIZE_HW, 1), dtype=np.uint8), 3, axis=2)
        x, y, side = 10 + 2 * i, 12 + i, 12 + 2 * (i % 3)
        image[y : y + side, x : x + side] = colour
        image[y : y + side, x + side // 2 : x + side] -= 15
        path = folder / f"{name}{i}.png"
        assert cv2.imwrite(str(path), image[..., ::-1])
        shown.append(TrackFrame(path, (x, y, side, side)))
    return ObjectTrack(source, video or name, label, tuple(shown))


def dataset(
    *tracks: ObjectTrack, config: PairConfig = PLAIN, weights: dict[str, float] | None = None, length: int = 200
) -> PairDataset:
    return PairDataset(tracks, weights or {}, config, seed=3, length=length)


def masks(crop: Tensor) -> dict[str, Tensor]:
    """Return where a crop (3, S, S) shows each colour."""
    bright, dark = crop > 150, crop < 50
    return {
        name: torch.stack([bright[c] if colour[c] > 99 else dark[c] for c in range(3)]).all(0)
        for colour, name in NAMES.items()
    }


def colour_of(crop: Tensor) -> str:
    (name,) = (name for name, mask in masks(crop).items() if mask.sum() > 20)
    return name


def equal(a: Pairs, b: Pairs) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_shapes_and_types(tmp_path: Path) -> None:
    pairs = dataset(make_track(tmp_path, RED, frames=3))[0]
    template, searches, template_box, boxes, positive = pairs
    assert (template.shape, template.dtype) == ((3, 32, 32), torch.uint8)
    assert (searches.shape, searches.dtype) == ((2, 3, 64, 64), torch.uint8)
    assert (template_box.shape, template_box.dtype) == ((4,), torch.float32)
    assert (boxes.shape, boxes.dtype) == ((2, 4), torch.float32)
    assert (positive.shape, positive.dtype) == ((2,), torch.bool)


def test_length_is_the_number_of_templates(tmp_path: Path) -> None:
    pairs = dataset(make_track(tmp_path, RED), length=3)
    assert len(pairs) == len(list(pairs)) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError):
            pairs[index]


def test_item_depends_on_seed_and_index_alone(tmp_path: Path) -> None:
    tracks = [make_track(tmp_path, RED, frames=4), make_track(tmp_path, BLUE, frames=3)]
    first = dataset(*tracks, config=RICH, length=20)
    other = dataset(*tracks, config=RICH, length=9)
    forward = [first[i] for i in range(9)]
    assert all(equal(other[i], forward[i]) for i in reversed(range(9)))
    assert not any(equal(forward[0], item) for item in forward[1:])
    seeded = PairDataset(tracks, {}, RICH, seed=4, length=9)
    assert not any(equal(seeded[i], forward[i]) for i in range(9))


@pytest.mark.parametrize("frames", [1, 5])
def test_object_is_where_the_centre_says(tmp_path: Path, frames: int) -> None:
    pairs = dataset(make_track(tmp_path, RED, frames))
    middle = PLAIN.search_size / 2
    flips, offsets, sides = Counter[bool](), [], []
    for i in range(25):
        item = pairs[i]
        for search, centre in zip(item.searches, item.boxes[:, :2], strict=True):
            mask = masks(search)["red"]
            rows, columns = (index.double() + 0.5 for index in mask.nonzero(as_tuple=True))
            assert abs(columns.mean() - middle - centre[0]) < 1
            assert abs(rows.mean() - middle - centre[1]) < 1
            offsets.append(centre)
            sides.append(float(mask.sum()) ** 0.5)
        left_is_bright = [lighter_left(crop) for crop in (item.template, *item.searches)]
        assert len(set(left_is_bright)) == 1  # the pair is flipped together
        flips[left_is_bright[0]] += 1
    assert min(flips[True], flips[False]) > 4
    reach = torch.stack(offsets).abs().amax(0)
    assert ((reach > 0.8 * PLAIN.max_shift) & (reach <= PLAIN.max_shift)).all()
    # The square's context side is 2 sides, so it takes half the template: 16 px of either crop, times 1.3 at most.
    assert 16 / 1.3 - 1 < min(sides) < 14
    assert 18 < max(sides) < 16 * 1.3 + 1


def lighter_left(crop: Tensor) -> bool:
    columns = masks(crop)["red"].nonzero()[:, 1]
    red = crop[0].double()
    left, right = (red[masks(crop)["red"] & side] for side in halves(crop, float(columns.double().mean())))
    return bool(left.mean() > right.mean())


def halves(crop: Tensor, middle: float) -> tuple[Tensor, Tensor]:
    columns = torch.arange(crop.shape[2]).expand(crop.shape[1:])
    return columns < middle, columns > middle


def test_template_shows_the_object_near_its_middle(tmp_path: Path) -> None:
    pairs = dataset(make_track(tmp_path, RED, frames=3))
    for i in range(20):
        places = masks(pairs[i].template)["red"].nonzero().double() + 0.5
        assert ((places.mean(0) - PLAIN.template_size / 2).abs() < PLAIN.template_shift + 1).all()


def extent(crop: Tensor, colour: str) -> Tensor:
    """Return (left, top, right, bottom) of what has a colour, less the crop's middle."""
    places = masks(crop)[colour].nonzero().double()
    low, high = places.amin(0).flip(0), places.amax(0).flip(0) + 1
    return torch.cat([low, high]) - crop.shape[-1] / 2


@pytest.mark.parametrize("max_stretch", [1.0, 1.4])
def test_boxes_hold_what_they_name(tmp_path: Path, max_stretch: float) -> None:
    pairs = dataset(make_track(tmp_path, RED, frames=3), config=replace(PLAIN, max_stretch=max_stretch))
    aspects = []
    for i in range(20):
        item = pairs[i]
        crops = [(item.template, item.template_box), *zip(item.searches, item.boxes, strict=True)]
        for crop, (u, v, w, h) in crops:
            expected = torch.stack([u - w / 2, v - h / 2, u + w / 2, v + h / 2])
            assert (extent(crop, "red") - expected).abs().max() < 2  # interpolation softens the edges
            aspects.append(float(w / h))
    assert max(aspects) == pytest.approx(max_stretch**2, rel=0.15)
    assert min(aspects) == pytest.approx(max_stretch**-2, rel=0.15)


def test_distractors_are_of_another_video_and_leave_the_middle_of_the_object(tmp_path: Path) -> None:
    tracks = [make_track(tmp_path, RED, video="street"), make_track(tmp_path, GREEN, video="street")]
    tracks.append(make_track(tmp_path, BLUE, video="field"))
    pairs = dataset(*tracks, config=replace(PLAIN, distractor_chance=1.0, same_class_share=0.0, still_share=1.0))
    pasted = Counter[tuple[str, str]]()
    for i in range(60):
        item = pairs[i]
        own = colour_of(item.template)
        for search, (u, v, _, _) in zip(item.searches, item.boxes, strict=True):
            row, column = int(32 + v), int(32 + u)
            assert masks(search)[own][row, column]
            pasted.update((own, name) for name, mask in masks(search).items() if name != own and mask.sum() > 8)
    assert pasted["red", "blue"] > 5
    assert pasted["blue", "red"] + pasted["blue", "green"] > 5
    assert set(pasted) <= {("red", "blue"), ("green", "blue"), ("blue", "red"), ("blue", "green")}


def test_backgrounds_fill_what_the_picture_does_not_cover(tmp_path: Path) -> None:
    tracks = [make_track(tmp_path, RED), make_track(tmp_path, BLUE)]
    assert cv2.imwrite(str(tracks[1].frames[0].image), np.full((*SIZE_HW, 3), (220, 20, 20), np.uint8))  # blue, BGR
    config = replace(PLAIN, max_shift=28.0, same_class_share=0.0, still_share=1.0)
    plain, filled = (dataset(*tracks, config=replace(config, background_chance=chance)) for chance in (0.0, 1.0))
    shares = []
    for i in range(40):
        for with_fill, without in zip(filled[i].searches, plain[i].searches, strict=True):
            if "red" in {name for name, mask in masks(without).items() if mask.sum() > 20}:
                shares.append(float(masks(with_fill)["blue"].float().mean()))
                assert not masks(without)["blue"].any()
    assert max(shares) > 0.2  # the object in the corner of its picture
    assert min(shares) == 0.0


def test_search_is_at_most_the_gap_away(tmp_path: Path) -> None:
    track = make_track(tmp_path, RED, frames=9)
    for i, frame in enumerate(track.frames):  # the picture's one colour says which frame it is
        assert cv2.imwrite(str(frame.image), np.full((*SIZE_HW, 3), 20 * i, np.uint8))
    pairs = dataset(track, config=replace(PLAIN, max_gap=2))
    gaps = Counter[int]()
    for i in range(60):
        item = pairs[i]
        gaps.update((item.searches[:, 0, 32, 32].int() - item.template[0, 16, 16].int()).div(20).int().tolist())
    assert set(gaps) == {-2, -1, 0, 1, 2}


def test_negatives_show_an_object_of_another_video(tmp_path: Path) -> None:
    tracks = [
        make_track(tmp_path, RED, frames=2, video="street", label="Car"),
        make_track(tmp_path, GREEN, frames=2, video="street", label="car"),
        make_track(tmp_path, BLUE, frames=2, video="field", label="car"),
        make_track(tmp_path, YELLOW, video="field", label="cow"),
    ]
    pairs = dataset(*tracks, config=replace(PLAIN, negative_share=0.7, still_share=0.3))
    field = {"blue", "yellow"}
    seen = Counter[tuple[str, str]]()
    for i in range(200):
        item = pairs[i]
        for search, positive in zip(item.searches, item.positive, strict=True):
            names = colour_of(item.template), colour_of(search)
            if positive:
                assert names[0] == names[1]
            else:
                assert (names[0] in field) != (names[1] in field)
                seen[names] += 1
    assert len(seen) == 8  # each of one video with each of the other


def test_negatives_are_as_many_and_as_alike_as_asked(tmp_path: Path) -> None:
    tracks = [make_track(tmp_path, RED, label="car"), make_track(tmp_path, GREEN, label="Car")]
    tracks += [make_track(tmp_path, BLUE, label="cow"), make_track(tmp_path, YELLOW, label="COW")]
    config = replace(PLAIN, negative_share=0.5, same_class_share=0.8, searches_per_template=1)
    pairs = dataset(*tracks, config=config, length=400)
    alike = {"red": "green", "green": "red", "blue": "yellow", "yellow": "blue"}
    kinds = Counter[str]()
    for i in range(400):
        item = pairs[i]
        names = colour_of(item.template), colour_of(item.searches[0])
        kinds["same object" if item.positive[0] else "alike" if alike[names[0]] == names[1] else "unlike"] += 1
    # Half are to be negatives. Of those four fifths are drawn from the two of the class and one fifth from all four;
    # a draw that gives the template's own video leaves the search positive.
    expected = {"alike": 0.5 * (0.8 / 2 + 0.2 / 4), "unlike": 0.5 * 0.2 * 2 / 4}
    expected["same object"] = 1 - sum(expected.values())
    assert chi_square(kinds, expected) < 18.4  # 2 degrees of freedom: one seed in 10000 is above


def chi_square(seen: Counter[str], shares: dict[str, float]) -> float:
    assert set(seen) <= set(shares)
    total = seen.total()
    return sum((seen[name] - total * share) ** 2 / (total * share) for name, share in shares.items())


def test_tracks_are_drawn_by_weight_and_root_of_length(tmp_path: Path) -> None:
    tracks = [
        make_track(tmp_path, RED, frames=16, source="videos"),
        make_track(tmp_path, GREEN, frames=4, source="videos"),
        make_track(tmp_path, BLUE, frames=4, source="other"),
        make_track(tmp_path, YELLOW, source="stills"),
    ]
    config = replace(PLAIN, still_share=0.25, searches_per_template=1)
    pairs = dataset(*tracks, config=config, weights={"videos": 2.0}, length=400)
    seen = Counter(colour_of(pairs[i].template) for i in range(400))
    videos = {"red": 2 * 4.0, "green": 2 * 2.0, "blue": 1 * 2.0}
    expected = {name: 0.75 * weight / 14 for name, weight in videos.items()} | {"yellow": 0.25}
    assert chi_square(seen, expected) < 21.1  # 3 degrees of freedom: one seed in 10000 is above


def test_source_of_weight_0_is_left_out(tmp_path: Path) -> None:
    tracks = [make_track(tmp_path, RED, source="a"), make_track(tmp_path, BLUE, source="b")]
    config = replace(PLAIN, negative_share=0.5)
    pairs = dataset(*tracks, config=config, weights={"b": 0.0})
    for i in range(30):
        assert {colour_of(crop) for crop in (pairs[i].template, *pairs[i].searches)} == {"red"}
    with pytest.raises(ValueError, match="weight of every source is 0"):
        dataset(*tracks, weights={"a": 0.0, "b": 0.0})
    with pytest.raises(ValueError, match="must not be negative, got .*-1"):
        dataset(*tracks, weights={"a": -1.0})


@pytest.mark.parametrize("still_share", [0.0, 1.0])
def test_one_kind_of_tracks_will_do(tmp_path: Path, still_share: float) -> None:
    config = replace(PLAIN, still_share=still_share)
    assert colour_of(dataset(make_track(tmp_path, RED), config=config)[0].template) == "red"
    assert colour_of(dataset(make_track(tmp_path, BLUE, frames=2), config=config)[0].template) == "blue"


def test_each_augmentation_has_its_chance(tmp_path: Path) -> None:
    track = make_track(tmp_path, RED)
    grey = dataset(track, config=replace(PLAIN, grey_chance=0.5))
    crops = [crop for i in range(60) for crop in (grey[i].template, *grey[i].searches)]
    share = sum(bool((crop[0] == crop[1]).all() and (crop[1] == crop[2]).all()) for crop in crops) / len(crops)
    assert abs(share - 0.5) < 4 * (0.25 / len(crops)) ** 0.5
    for name in ("colour", "blur_chance", "cover_chance"):
        augmented = dataset(track, config=replace(PLAIN, **{name: 1.0}))
        assert not any(equal(augmented[i], dataset(track)[i]) for i in range(5))


def test_a_camera_shows_template_and_searches_alike(tmp_path: Path) -> None:
    tracks = [make_track(tmp_path, colour, 4, video=name) for colour, name in NAMES.items()]
    greys = []
    for item in PairDataset(tracks, {}, replace(RICH, camera=Camera(grey=0.4), grey_chance=0.0), 0, 60):
        kinds = {bool((crop == crop[:1]).all()) for crop in (item.template, *item.searches)}
        assert len(kinds) == 1
        greys.append(kinds.pop())
    darks = []
    for item in PairDataset(tracks, {}, replace(PLAIN, camera=Camera(dark=0.4)), 0, 60):
        brightest = [int(crop.max()) for crop in (item.template, *item.searches)]
        assert max(brightest) - min(brightest) < 5
        darks.append(brightest[0] < 210)
    assert 14 < sum(greys) < 36 and 14 < sum(darks) < 36


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    track = make_track(tmp_path, RED)
    track.frames[0].image.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"10 draws in a row .* cannot read the training picture .*red0.png"):
        dataset(track)[0]
    track.frames[0].image.unlink()
    with pytest.raises(ValueError, match="cannot read the training picture .*red0.png"):
        dataset(track)[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_draw_that_meets_an_unreadable_picture_is_replaced_and_counted(tmp_path: Path, workers: int) -> None:
    whole, broken = make_track(tmp_path, RED), make_track(tmp_path, BLUE)
    untouched = [dataset(whole, broken)[i] for i in range(20)]
    broken.frames[0].image.write_bytes(b"no picture")
    drawn = dataset(whole, broken)
    items = list(DataLoader(drawn, batch_size=None, sampler=range(20), num_workers=workers))
    same = [equal(a, b) for a, b in zip(items, untouched, strict=True)]
    assert 3 < sum(same) < 17  # what meets no broken picture stays as it was
    assert drawn.skipped >= 20 - sum(same)
    again = dataset(whole, broken)
    assert all(equal(again[i], item) for i, item in enumerate(items))


def test_batch_is_channels_last() -> None:
    crops = [np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8) for seed in range(3)]
    crops[1] = crops[1][:, ::-1]  # a flipped crop is a view with a negative stride
    batch = to_batch(crops)
    assert batch.shape == (3, 3, 16, 16)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for crop, image in zip(crops, batch, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), crop)
