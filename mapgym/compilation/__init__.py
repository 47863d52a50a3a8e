"""How kernels are compiled, kept and given random numbers."""

from mapgym.compilation.decorators import accessor, allocating_kernel, inlined_kernel, kernel

__all__ = ["accessor", "allocating_kernel", "inlined_kernel", "kernel"]
