import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tracker.interface import Frame
from tracker.window import Window

pygame = pytest.importorskip("pygame")


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window("clip.mp4") as opened:
        yield opened


def frame_of(height: int = 240, width: int = 320) -> Frame:
    return np.full((height, width, 3), (200, 40, 60), np.uint8)


def press(key: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key, mod=0, unicode=""))


def button(kind: int, position: tuple[int, int], which: int = 1) -> None:
    pygame.event.post(pygame.event.Event(kind, pos=position, button=which))


def drag(begin: tuple[int, int], end: tuple[int, int]) -> None:
    button(pygame.MOUSEBUTTONDOWN, begin)
    button(pygame.MOUSEBUTTONUP, end)


# ---- show ----


def test_show_displays_the_frame_in_rgb(window: Window) -> None:
    assert window.show(frame_of())
    surface = pygame.display.get_surface()
    assert surface.get_size() == (320, 240)
    assert tuple(surface.get_at((160, 120)))[:3] == (200, 40, 60)


def test_large_frame_opens_a_window_that_fits_the_screen(window: Window) -> None:
    window.show(frame_of(4000, 4000))
    screen_w, screen_h = pygame.display.get_desktop_sizes()[0]
    width, height = pygame.display.get_surface().get_size()
    assert width == height <= 0.9 * min(screen_w, screen_h) + 1


def test_frame_of_another_shape_is_centred_on_black(window: Window) -> None:
    window.show(frame_of())
    window.show(frame_of(240, 80))
    surface = pygame.display.get_surface()
    assert tuple(surface.get_at((60, 120)))[:3] == (0, 0, 0)
    assert tuple(surface.get_at((160, 120)))[:3] == (200, 40, 60)


@pytest.mark.parametrize("key", ["K_q", "K_ESCAPE"])
def test_q_and_escape_stop(window: Window, key: str) -> None:
    window.show(frame_of())
    press(getattr(pygame, key))
    assert not window.show(frame_of())


def test_closing_the_window_stops(window: Window) -> None:
    window.show(frame_of())
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert not window.show(frame_of())


def test_space_pauses_until_space(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    polls = [[pygame.K_SPACE], [], [], [pygame.K_SPACE]]

    def get() -> list[object]:
        return [pygame.event.Event(pygame.KEYDOWN, key=key) for key in polls.pop(0)]

    monkeypatch.setattr(pygame.event, "get", get)
    assert window.show(frame_of())
    assert polls == []


def test_show_keeps_to_the_frame_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with Window("clip.mp4", max_fps=20) as window:
        window.show(frame_of())
        begin = pygame.time.get_ticks()
        for _ in range(4):
            window.show(frame_of())
        assert pygame.time.get_ticks() - begin >= 150  # 4 frames at 20 fps are 200 ms; the clock ticks in ms


# ---- boxes ----


def test_dragged_boxes_come_back_in_frame_pixels(window: Window) -> None:
    window.show(frame_of())
    drag((10, 20), (70, 50))
    drag((200, 150), (180, 110))  # up and to the left
    press(pygame.K_RETURN)
    assert [box.to_xywh() for box in window.select_boxes(frame_of())] == [(10, 20, 60, 30), (180, 110, 20, 40)]


def test_scaled_and_centred_frame_gives_the_same_pixels(window: Window) -> None:
    window.show(frame_of())  # a window of 320 x 240, in which 480 x 160 is shown at half size, 80 left and right
    drag((80 + 10, 20), (80 + 70, 50))
    press(pygame.K_RETURN)
    assert [box.to_xywh() for box in window.select_boxes(frame_of(480, 320))] == [(20, 40, 120, 60)]


def test_box_is_clipped_to_the_frame(window: Window) -> None:
    window.show(frame_of())
    drag((0, 0), (300, 230))
    press(pygame.K_RETURN)
    (box,) = window.select_boxes(frame_of(240, 160))  # shown from column 80 to 240
    assert box.to_xywh() == (0, 0, 160, 230)


def test_a_click_is_no_box_and_enter_waits_for_one(window: Window) -> None:
    window.show(frame_of())
    drag((10, 20), (10, 20))
    press(pygame.K_RETURN)
    drag((10, 20), (30, 50))
    press(pygame.K_RETURN)
    assert len(window.select_boxes(frame_of())) == 1


def test_backspace_and_right_click_clear(window: Window) -> None:
    window.show(frame_of())
    drag((1, 1), (50, 50))
    press(pygame.K_BACKSPACE)
    drag((2, 2), (50, 50))
    button(pygame.MOUSEBUTTONDOWN, (5, 5), which=3)
    drag((3, 3), (50, 50))
    press(pygame.K_RETURN)
    assert [box.to_xywh()[0] for box in window.select_boxes(frame_of())] == [3]


@pytest.mark.parametrize("kind", ["escape", "close"])
def test_escape_and_close_cancel(window: Window, kind: str) -> None:
    window.show(frame_of())
    drag((1, 1), (50, 50))
    if kind == "escape":
        press(pygame.K_ESCAPE)
    else:
        pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert window.select_boxes(frame_of()) == []


# ---- a live source ----


def test_freeze_gives_the_frame_at_the_key(window: Window) -> None:
    def live() -> Iterator[Frame]:
        for index in itertools.count():
            if index == 3:
                press(pygame.K_SPACE)
            yield np.full((24, 32, 3), index, np.uint8)

    frame = window.freeze(live())
    assert frame is not None
    assert frame[0, 0, 0] == 3


def test_mouse_press_freezes_and_begins_the_box(window: Window) -> None:
    window.show(frame_of())
    button(pygame.MOUSEBUTTONDOWN, (10, 20))
    frame = window.freeze(itertools.repeat(frame_of()))
    assert frame is not None
    button(pygame.MOUSEBUTTONUP, (40, 60))
    press(pygame.K_RETURN)
    assert [box.to_xywh() for box in window.select_boxes(frame)] == [(10, 20, 30, 40)]


def test_freeze_can_be_cancelled_and_ends_with_the_source(window: Window) -> None:
    window.show(frame_of())
    assert window.freeze(iter([frame_of()])) is None
    press(pygame.K_ESCAPE)
    assert window.freeze(itertools.repeat(frame_of())) is None


# ---- nothing to open ----


def test_missing_pygame_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ImportError, match=r"pip install 'siamtrack\[live\]'"):
        Window("clip.mp4")


def test_display_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setattr(pygame.display, "get_driver", lambda: "offscreen")
    monkeypatch.setattr(pygame.display, "init", lambda: None)
    with pytest.raises(OSError, match="there is no display; give --init"):
        Window("clip.mp4")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such variables")
def test_missing_display_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OSError, match="there is no display; give --init"):
        Window("clip.mp4")
    assert capfd.readouterr().err == ""


def test_display_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    with pytest.raises(OSError, match=r"cannot open a window \(.*\); give --init"):
        Window("clip.mp4")


def test_importing_the_module_does_not_import_pygame() -> None:
    program = "import sys, tracker.window; sys.exit('pygame' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, timeout=60).returncode == 0
