"""Measurements on the hidden vectors of a stack, one a file.

K trials, N examples, D the length of a hidden vector, C classes: tensors ``[K, ...]`` in, one
number per trial ``[K]`` out. ``chosen [K, N]`` marks the examples each trial is measured on,
mostly its test examples. Trials never mix: a trial's number is the same alone and in any stack,
whatever its neighbours hold, and a trial whose hidden vectors are not finite reads NaN.
"""


def names():
    return (
        "dimension",
        "twonn",
        "activation",
        "stride",
        "spectrum",
        "purity",
        "attention",
        "layers",
        "homology",
        "picture",
    )


def needs():
    return {"homology": ("ripser", "ripser"), "picture": ("umap", "umap-learn")}


def built_in(name):
    return None
