"""Names the actions of raw clips, recordings and streams with the head of a run."""
