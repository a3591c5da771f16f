"""Training: config, state, objective, step, loop, checkpoints."""
