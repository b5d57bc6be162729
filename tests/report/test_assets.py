"""What the package holds of the front end: whole licences, nothing that ends its element, no registry's address."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

FRONTEND = Path(__file__).parents[2] / "frontend"
ASSETS = resources.files("circuitkit.report") / "assets"


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def test_the_licences_of_all_that_is_bundled_go_with_every_page():
    licences = asset("LICENSES.txt")
    locked = json.loads((FRONTEND / "package-lock.json").read_text())["packages"]
    for name, part in (
        ("echarts", "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"),
        ("zrender", "Redistributions in binary form must reproduce the above copyright"),
        ("tslib", "Permission to use, copy, modify, and/or distribute this software"),
    ):
        assert f"{name} {locked[f'node_modules/{name}']['version']} (" in licences
        assert part in " ".join(licences.split())
    assert licences in asset("report.js")


def test_nothing_in_the_script_or_the_stylesheet_ends_its_element():
    assert not re.search(r"</script|<!--", asset("report.js"), re.IGNORECASE)
    assert not re.search(r"</style|<!--|@import|url\(", asset("report.css"), re.IGNORECASE)


def test_versions_are_exact_and_no_registry_is_named():
    wanted = json.loads((FRONTEND / "package.json").read_text())
    versions = {**wanted["dependencies"], **wanted["devDependencies"]}
    locked = json.loads((FRONTEND / "package-lock.json").read_text())["packages"]
    for name, version in versions.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert locked[f"node_modules/{name}"]["version"] == version
    assert not any("resolved" in package for package in locked.values())
    assert all("integrity" in package for path, package in locked.items() if path)
