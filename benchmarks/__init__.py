"""Commands that measure the training step, attention, the data side and many devices."""
