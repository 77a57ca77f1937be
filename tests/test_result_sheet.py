from tests.verifiers import thing
from tracker.geometry import Box
from tracker.result_sheet import _ASKED, _COLUMNS, _OTHER, _SAME, _STRIP, _TILE, Shown, result_sheet


def test_tiles_stand_in_rows_with_the_colour_of_their_verdict() -> None:
    found = [Shown(thing(seed), f"{seed}.png", 0.5, seed < 3) for seed in range(8)]
    sheet = result_sheet(thing(9), None, found)
    height = _TILE + _STRIP
    assert sheet.shape == (2 * height, _COLUMNS * _TILE, 3)
    corners = [tuple(sheet[at // _COLUMNS * height + 1, at % _COLUMNS * _TILE + _TILE // 2]) for at in range(9)]
    assert corners == [_ASKED, *[_SAME] * 3, *[_OTHER] * 5]


def test_pictures_keep_their_shape_and_the_box_is_drawn() -> None:
    wide = thing(0, 300)[:60]
    sheet = result_sheet(wide, Box.from_xywh(100, 10, 80, 40), [])
    assert sheet.shape == (_TILE + _STRIP, _TILE, 3)
    inside = sheet[5 : _TILE - 5, 5 : _TILE - 5].astype(int)
    shown = (inside != 32).any(axis=2).any(axis=1)
    assert shown.sum() == round(60 * 186 / 300)  # a fifth of the tile's room in height
    yellow = (abs(inside - _ASKED) < 60).all(axis=2)
    assert 50 < yellow.sum() < 600
    assert tuple(wide[10, 100]) == tuple(thing(0, 300)[10, 100])  # the picture itself stays as it was


def test_picture_that_is_gone_is_dark_and_long_names_fit() -> None:
    sheet = result_sheet(thing(0), None, [Shown(None, f"{'folder/' * 30}ü.png", -0.25, False)])
    assert (sheet[10 : _TILE - 10, _TILE + 10 : 2 * _TILE - 10] == 32).all()
    assert (sheet[_TILE:, -3:] == 32).all()  # no letter runs out of the sheet
    assert (sheet[_TILE:, _TILE:] > 200).any()
