"""What touches the operating system: files, locks, memory, streams and signals."""
