"""Ablations: plans runs, executes them in parallel and tabulates their results."""
