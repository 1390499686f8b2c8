"""The wheel's packages: those of phasemap, and inside it the folders that stand beside it in a checkout."""

from setuptools import find_namespace_packages, setup

own = find_namespace_packages(include=["phasemap", "phasemap.*"])
setup(packages=[*own, "phasemap.analysis", "phasemap.search_spaces"])
