"""A network mapped layer by layer, on one accelerator or on variants of it."""
