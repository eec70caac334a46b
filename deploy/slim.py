"""Take out of an environment what serving never reads: slim.py ENVIRONMENT

Tests of packages, their sources, tools that make models, and the symbol tables of shared libraries, which debuggers
alone read. `make image` runs what is left; the image of training keeps everything.
"""

from __future__ import annotations

import shutil
import struct
import sys
from pathlib import Path
from typing import Final

FOLDERS: Final = (
    *(
        "onnx/backend/test",
        "onnx/reference",
        "onnxruntime/quantization",
        "onnxruntime/tools",
        "onnxruntime/transformers",
    ),
    *("numpy/distutils", "numpy/f2py", "numpy/_core/include"),
    "kernelscope_models",
)
"""What makes, converts or compares models, what compiles against NumPy; and models, which the image has in /models."""
UNUSED: Final = ("onnxruntime/capi/libonnxruntime.so*",)
"""onnxruntime for programs in C; Python's module has its own."""
TESTS: Final = ("tests", "test")
KEPT: Final = frozenset({"_natype.py"})
"""Of tests: numpy.testing imports this one."""
SOURCES: Final = frozenset({".a", ".c", ".cc", ".h", ".lib", ".proto", ".pxd", ".pyi", ".pyx"})

_ELF64: Final = b"\x7fELF\x02\x01"
_PHOFF, _SHOFF, _PHNUM, _SHNUM = 32, 40, 56, 60
"""Where a 64-bit little-endian ELF header has the tables of segments and sections, and how many there are of each."""
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")


def stripped(data: bytes) -> bytes:
    """A shared library without what stands behind its last segment: the loader reads segments alone, never sections.

    `strip` rewrites segments as well, and so breaks libraries that auditwheel has patched.

    Source: https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html
    """
    if not data.startswith(_ELF64):
        return data
    (segments,) = struct.unpack_from("<Q", data, _PHOFF)
    (count,) = struct.unpack_from("<H", data, _PHNUM)
    end = segments + count * _SEGMENT.size
    for number in range(count):
        _, _, offset, _, _, size, _, _ = _SEGMENT.unpack_from(data, segments + number * _SEGMENT.size)
        end = max(end, offset + size)
    left = bytearray(data[:end])
    struct.pack_into("<Q", left, _SHOFF, 0)
    struct.pack_into("<HH", left, _SHNUM, 0, 0)  # how many sections, and which of them has their names
    return bytes(left)


def slim(packages: Path) -> int:
    """Make a `site-packages` smaller; returns by how many bytes."""
    before = size(packages)
    for name in FOLDERS:
        shutil.rmtree(packages / name, ignore_errors=True)
    for pattern in UNUSED:
        for path in packages.glob(pattern):
            path.unlink()
    for path in [path for path in packages.rglob("*") if path.is_file() and {*path.parts} & {*TESTS}]:
        if path.name not in KEPT:
            path.unlink()
    for path in [path for path in packages.rglob("*") if path.is_file() and not path.is_symlink()]:
        if path.suffix in SOURCES:
            path.unlink()
        elif ".so" in path.suffixes:
            path.write_bytes(stripped(path.read_bytes()))
    return before - size(packages)


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    for packages in Path(sys.argv[1]).glob("lib/python3*/site-packages"):
        print(f"{packages}: {slim(packages) / 1e6:,.0f} MB less, {size(packages) / 1e6:,.0f} MB left")
