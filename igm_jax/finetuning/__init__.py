"""Fine-tuning: trains a pre-trained encoder and a classifier on labelled clips."""
