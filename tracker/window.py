"""A live window: show frames as they are tracked, and let the user drag boxes.

It needs pygame, which comes with the `live` extra; the module itself imports without it.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import cv2

from tracker.geometry import Box
from tracker.interface import Frame

if TYPE_CHECKING:
    import pygame

_SELECT_CAPTION = "drag a box around each target - Enter: start, Backspace: clear, Esc: cancel"
_FREEZE_CAPTION = "Space: freeze the picture to mark a target, Esc: cancel"
_SHOW_CAPTION = "Space: pause, Esc: stop"
_DISPLAY_VARIABLES = {"DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"}
_SCREEN_SHARE = 0.9  # of the screen that the window may take at first
_LEAST_SIDE = 2.0  # frame pixels; a smaller drag is a click
_IDLE_FPS = 60.0
_BOX_COLOUR = (0, 230, 118)


class Window:
    """Show frames scaled to fit a resizable window; a context manager.

    Boxes that the user drags come back in frame pixels, whatever the scale.
    """

    def __init__(self, title: str, max_fps: float | None = None) -> None:
        """Prepare the display; the window opens with the first frame. `max_fps` slows `show` down to that rate.

        Raises ImportError where pygame is missing and OSError where there is no display.
        """
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ImportError as error:
            raise ImportError(
                "a window needs pygame: pip install 'siamtrack[live]', or give --init and no --show"
            ) from error
        no_display = OSError("cannot open a window: there is no display; give --init and no --show")
        if sys.platform == "linux" and not _DISPLAY_VARIABLES & os.environ.keys():
            raise no_display  # before SDL tries, as it writes lines of its own
        try:
            pygame.display.init()
        except pygame.error as error:
            raise OSError(f"cannot open a window ({error}); give --init and no --show") from error
        if pygame.display.get_driver() == "offscreen" and "SDL_VIDEODRIVER" not in os.environ:
            pygame.display.quit()
            raise no_display  # offscreen is SDL's stand-in where the display does not answer
        self._title = title
        self._max_fps = max_fps or 0.0
        self._clock = pygame.time.Clock()
        self._scale, self._left, self._top = 1.0, 0, 0  # window px = frame px * scale + (left, top)

    def show(self, frame: Frame) -> bool:
        """Show a frame; Space pauses until it is pressed again. Return False when the user wants to stop."""
        import pygame

        self._present(frame, _SHOW_CAPTION)
        paused = False
        while True:
            for event in pygame.event.get():
                if _asks_to_quit(event):
                    return False
                if event.type == pygame.KEYDOWN and event.key == pygame.K_SPACE:
                    paused = not paused
            if not paused:
                self._clock.tick(self._max_fps)
                return True
            self._clock.tick(_IDLE_FPS)
            self._present(frame, _SHOW_CAPTION)  # the window may have changed size

    def freeze(self, frames: Iterator[Frame]) -> Frame | None:
        """Play frames until Space or a mouse button picks one; return it, or None where the user or the frames end."""
        import pygame

        for frame in frames:
            self._present(frame, _FREEZE_CAPTION)
            for event in pygame.event.get():
                if _asks_to_quit(event):
                    return None
                if event.type == pygame.KEYDOWN and event.key == pygame.K_SPACE:
                    return frame
                if event.type == pygame.MOUSEBUTTONDOWN:
                    pygame.event.post(event)  # it begins the first box
                    return frame
        return None

    def select_boxes(self, frame: Frame) -> list[Box]:
        """Let the user drag one box or more, in frame pixels. Return them on Enter, an empty list on Escape."""
        import pygame

        boxes: list[Box] = []
        anchor: tuple[int, int] | None = None
        while True:
            dragged = [] if anchor is None else [self._dragged_box(frame, anchor, pygame.mouse.get_pos())]
            self._present(frame, _SELECT_CAPTION, boxes + dragged)
            for event in pygame.event.get():
                if _asks_to_quit(event):
                    return []
                if event.type == pygame.KEYDOWN and event.key in (pygame.K_RETURN, pygame.K_KP_ENTER) and boxes:
                    return boxes
                if _asks_to_clear(event):
                    boxes, anchor = [], None
                elif event.type == pygame.MOUSEBUTTONDOWN and event.button == pygame.BUTTON_LEFT:
                    anchor = event.pos
                elif event.type == pygame.MOUSEBUTTONUP and event.button == pygame.BUTTON_LEFT and anchor is not None:
                    box = self._dragged_box(frame, anchor, event.pos)
                    if min(box.w, box.h) >= _LEAST_SIDE:
                        boxes.append(box)
                    anchor = None
            self._clock.tick(_IDLE_FPS)

    def _dragged_box(self, frame: Frame, a: tuple[int, int], b: tuple[int, int]) -> Box:
        """Return the box between two window points, in frame pixels and within the frame."""
        height, width = frame.shape[:2]
        x0, x1 = sorted(min(max((x - self._left) / self._scale, 0.0), float(width)) for x in (a[0], b[0]))
        y0, y1 = sorted(min(max((y - self._top) / self._scale, 0.0), float(height)) for y in (a[1], b[1]))
        return Box.from_xywh(x0, y0, x1 - x0, y1 - y0)

    def _present(self, frame: Frame, caption: str, boxes: Sequence[Box] = ()) -> None:
        """Draw the frame, scaled to fit the window and centred in it, and the boxes on top."""
        import pygame

        height, width = frame.shape[:2]
        surface = pygame.display.get_surface() or pygame.display.set_mode(_first_size(width, height), pygame.RESIZABLE)
        room_w, room_h = surface.get_size()
        self._scale = min(room_w / width, room_h / height)
        shown_w, shown_h = max(1, round(width * self._scale)), max(1, round(height * self._scale))
        self._left, self._top = (room_w - shown_w) // 2, (room_h - shown_h) // 2
        shrinks = cv2.INTER_AREA if self._scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(frame, (shown_w, shown_h), interpolation=shrinks)
        surface.fill((0, 0, 0))
        surface.blit(pygame.image.frombuffer(image.tobytes(), (shown_w, shown_h), "RGB"), (self._left, self._top))
        for box in boxes:
            x, y, w, h = (value * self._scale for value in box.to_xywh())
            pygame.draw.rect(
                surface, (0, 230, 118), (round(x) + self._left, round(y) + self._top, round(w), round(h)), 2
            )
        pygame.display.set_caption(f"{self._title} - {caption}")
        pygame.display.flip()

    def close(self) -> None:
        """Close the window."""
        import pygame

        pygame.display.quit()

    def __enter__(self) -> "Window":
        """Return the window."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the window."""
        self.close()


def _first_size(width: int, height: int) -> tuple[int, int]:
    """Return the size of a new window: that of the frame, made smaller where the screen is."""
    import pygame

    screen_w, screen_h = pygame.display.get_desktop_sizes()[0]
    scale = min(1.0, _SCREEN_SHARE * screen_w / width, _SCREEN_SHARE * screen_h / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _asks_to_quit(event: "pygame.event.Event") -> bool:
    import pygame

    return event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key in (pygame.K_ESCAPE, pygame.K_q))


def _asks_to_clear(event: "pygame.event.Event") -> bool:
    import pygame

    if event.type == pygame.KEYDOWN:
        return bool(event.key == pygame.K_BACKSPACE)
    return bool(event.type == pygame.MOUSEBUTTONDOWN and event.button == pygame.BUTTON_RIGHT)
