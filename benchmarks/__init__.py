"""What the training step costs: commands that measure it, beside the same step in PyTorch."""
