"""How the C library hands out memory, as far as that is ours to say."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_LARGE_BYTES = 128 * 1024


def return_large_buffers() -> None:
    """Let large buffers go back to the system as soon as they are freed.

    glibc begins like that, but learns from the first answers of a run to keep such buffers on its heap, which then
    falls to pieces: within millions of rows the process grew by a tenth. Does nothing where there is no glibc.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
