"""The counts of Timeloop for dense tensors."""
