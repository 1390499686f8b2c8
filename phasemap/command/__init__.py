"""The command: its options, the terminal, figures while a sweep runs."""
