"""From MLflow to figures: one reader, statistics, and one module per figure.

Every figure is ``figure(summarize(table, ...))`` and can be drawn into any axes with
``draw(ax, summarize(table, ...))``. Trains nothing and writes nothing to MLflow.
"""

__all__ = ("load_curves", "load_table", "read")


def __getattr__(name: str) -> object:  # mlflow and pandas are imported on first use only
    if name in __all__:
        from phasemap.record import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
