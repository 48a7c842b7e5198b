"""A training step by stage: its time, its work, and what the machine could do."""
