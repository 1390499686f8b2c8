"""Prints the image's requirements: pyproject.toml's pins, and what its servers need besides.

ray[default] brings the dashboard, which `ray job submit` and KubeRay's probes ask; psycopg2 is
MLflow's way to PostgreSQL, pinned among the test requirements.
"""

import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extra = [line for line in project["optional-dependencies"]["test"] if line.startswith("psycopg2")]
for line in project["dependencies"] + extra:
    print(line.replace("ray[tune]", "ray[default,tune]"))
