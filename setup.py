"""The wheel's packages: every room of phasemap, and inside it the folders that stand beside it in a checkout."""

from setuptools import find_namespace_packages, setup

rooms = find_namespace_packages(include=["phasemap", "phasemap.*"])
setup(packages=[*rooms, "phasemap.analysis", "phasemap.search_spaces"])
