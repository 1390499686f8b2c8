"""Matrix products, losses and random streams of a stack, and what of a processor moves their last bits."""
