"""AccelForge (github.com/Accelergy-Project/accelforge): its architectures in, mappings out."""

from mapgym.interop.accelforge.reading import read_accelforge
from mapgym.interop.accelforge.writing import export_accelforge

__all__ = ["export_accelforge", "read_accelforge"]
