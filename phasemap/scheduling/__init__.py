"""Stacks on the cores and GPUs of Ray, or in this process. This package alone imports Ray."""
