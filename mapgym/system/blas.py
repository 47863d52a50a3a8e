"""Numba looks for BLAS when it loads its first function, which imports all of scipy.linalg for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from numba.np import linalg


@contextmanager
def blas_put_off() -> Iterator[None]:
    """Numba does not look in the block; who compiles a product of matrices afterwards finds BLAS all the same."""
    look = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        yield
    finally:
        linalg.ensure_blas = look
