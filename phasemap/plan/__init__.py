"""What to run: a trial, a search space, same-shaped trials grouped. Imports neither torch nor Ray nor MLflow."""
