"""Files that people have for Timeloop, read into our objects."""
