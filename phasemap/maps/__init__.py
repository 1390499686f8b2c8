"""Choosing points where phases meet, and the map they give. This room alone imports Optuna."""
