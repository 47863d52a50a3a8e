"""Contract tests that agents and environments, ours and other people's, can inherit."""
