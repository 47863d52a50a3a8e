"""What other tools read and write: their accelerators and workloads as ours, and mappings of ours as theirs."""
