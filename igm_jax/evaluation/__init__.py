"""Evaluation of a run folder: features, probes, KNN, generation, theory, transfer, export."""
