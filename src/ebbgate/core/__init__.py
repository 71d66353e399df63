"""All rules, and nothing else: pure, deterministic, without I/O or a clock."""
