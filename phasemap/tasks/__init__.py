"""What is learned. ``task.py`` is the base; every other file adds the tasks that its ``__all__`` names."""
