"""How kernels are compiled, kept and given random numbers."""

from mapgym.compilation.decorators import allocating_kernel, inlined_kernel, kernel

__all__ = ["allocating_kernel", "inlined_kernel", "kernel"]
