"""ZigZag (github.com/KULeuven-MICAS/zigzag): its accelerators and layers in, mappings out."""

from mapgym.interop.zigzag.reading import read_zigzag
from mapgym.interop.zigzag.writing import export_zigzag

__all__ = ["export_zigzag", "read_zigzag"]
