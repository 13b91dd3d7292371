"""A window in which to watch an agent."""

from __future__ import annotations

import os
import sys

from dqn.envs.base import Array
from dqn.errors import UserError

_SMALLEST_HEIGHT = 420  # pixels; smaller pictures are enlarged


def has_display() -> bool:
    """Whether a window could be opened at all."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class Screen:
    """Shows frames at the rate at which they are to be seen.

    Args:
        frames_per_second: how fast.
        title: of the window.

    Raises:
        UserError: there is no display.
    """

    def __init__(self, frames_per_second: float, title: str) -> None:
        if not has_display():
            raise UserError("show", True, "no window can be opened: there is no display; video=true films instead")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        import pygame

        pygame.display.init()
        self._pygame, self._rate = pygame, frames_per_second
        self._clock = pygame.time.Clock()
        self._title = title

    def show(self, frame: Array) -> None:
        """Show a frame (height, width, 3) uint8, and wait until the next is due.

        Raises:
            KeyboardInterrupt: the window was closed.
        """
        pygame = self._pygame
        scale = max(1, -(-_SMALLEST_HEIGHT // frame.shape[0]))
        size = (frame.shape[1] * scale, frame.shape[0] * scale)
        window = pygame.display.get_surface() or pygame.display.set_mode(size)
        pygame.display.set_caption(self._title)
        picture = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        window.blit(pygame.transform.scale(picture, size), (0, 0))
        pygame.display.flip()
        if any(event.type == pygame.QUIT for event in pygame.event.get()):
            raise KeyboardInterrupt
        self._clock.tick(self._rate)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()
