"""Networks and accelerators of other programs, as ours."""
