"""Evaluation of a run folder: features, linear probe, KNN."""
