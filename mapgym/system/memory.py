"""Refuses what would not fit into memory, before it is allocated.

An operating system gives out more memory than there is, and ends the process when it is used.
"""

from __future__ import annotations

import os
from pathlib import Path

from mapgym.errors import SpecificationError

_LOOKED_AT = 2**28
"""Bytes up to which nobody looks: every machine that mapgym runs on has them."""


def require_memory(size: int, what: str, remedy: str) -> None:
    """Raises SpecificationError if more bytes are asked for than the machine has left.

    Args:
        size: bytes.
        what: what they are for, such as "1,000 mappings".
        remedy: what to do about it.
    """
    if size > _LOOKED_AT and size > (left := available_bytes()):
        raise SpecificationError(
            f"{what} would take {_gigabytes(size)} of memory, and {_gigabytes(left)} are left; {remedy}"
        )


def available_bytes() -> int:
    """Bytes of memory that a process can still get, as far as the system says."""
    left = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [2**63]
    try:
        entries = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        left.append(int(entries["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    # A container may have less than its machine.
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        left.append(max(0, limit - used))
    except (OSError, ValueError):
        pass
    return min(left)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size < 10**18 else "over a billion GB"
