"""MLflow: one run per trial, and what its pages show. This package alone imports MLflow."""
