"""Matrix products, losses and random streams of a stack."""
