"""Real clients push to and play from the real gateway."""
