"""Large buffers do not stay in the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import ctypes, sys
from importer.memory import return_large_buffers
if sys.argv[1] == "yes":
    return_large_buffers()
libc = ctypes.CDLL(None)
for name in ("malloc", "free"):
    getattr(libc, name).restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
libc.mallinfo2.restype = Info
libc.free(libc.malloc(4 << 20))  # from which glibc learns
before = libc.mallinfo2().hblks
libc.malloc(1 << 20)
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
@pytest.mark.parametrize(("is_asked", "of_its_own"), [("yes", 1), ("no", 0)])
def test_large_buffers_are_mapped_by_themselves(is_asked: str, of_its_own: int) -> None:
    """So they go back when they are freed; left alone, glibc keeps them on its heap after the first one."""
    found = subprocess.run([sys.executable, "-c", _SCRIPT, is_asked], capture_output=True, text=True, check=True)

    assert of_its_own == int(found.stdout)
