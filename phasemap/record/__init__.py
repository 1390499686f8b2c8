"""MLflow: one run per trial, and what its pages show. This room alone imports MLflow."""
