"""Ablations: planning runs, working on them side by side, and the table of their results."""
