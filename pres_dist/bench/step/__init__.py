"""Profile a training step by stage: its time, its work, and the limits of the machine."""
