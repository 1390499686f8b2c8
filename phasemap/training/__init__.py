"""Training a stack: steps, evaluations, events read off curves, checkpoints."""
