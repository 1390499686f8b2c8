"""Prints what the image needs, from pyproject.toml: dependencies of the program and of its servers."""

import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"]["server"]))
