"""Compiled arithmetic of whole numbers."""

from __future__ import annotations

from mapgym.compilation.decorators import kernel


@kernel
def greatest_common_divisor(a: int, b: int) -> int:
    """Euclid's."""
    while b:
        a, b = b, a % b
    return a


@kernel
def factorial(n: int) -> int:
    """The factorial of a number up to 20."""
    product = 1
    for k in range(2, n + 1):
        product *= k
    return product
