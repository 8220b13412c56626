"""Versions: one of the package wherever it is written down, and pins that are within the package's own ranges."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pixelcnn
from pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UNPINNED = {"datasets", "vector-quantize-pytorch"}
"""What no target of the Makefile installs."""


def pins(name):
    """The versions of a file of requirements."""
    found = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def test_the_package_has_one_version():
    assert pixelcnn.__version__ == PROJECT["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == PROJECT["version"]


def test_pins_are_within_the_ranges():
    pinned, groups = pins("constraints.txt"), PROJECT["optional-dependencies"].values()
    required = [Requirement(line) for line in (*PROJECT["dependencies"], *(each for group in groups for each in group))]
    names = {canonicalize_name(each.name) for each in required} - {"pixelcnn"}
    assert names - pinned.keys() == UNPINNED
    for each in required:
        if (version := pinned.get(canonicalize_name(each.name))) is not None:
            assert each.specifier.contains(version), each


def test_hooks_before_a_commit_have_the_versions_of_the_linters():
    hooks = ROOT / ".pre-commit-config.yaml"
    if not hooks.exists():
        pytest.skip("not in a source distribution")
    found = dict(re.findall(r"/(ruff|codespell)[\w-]*\n +rev: v([\d.]+)", hooks.read_text(encoding="utf-8")))
    tested = pins("constraints.txt")
    assert found == {"ruff": tested["ruff"], "codespell": tested["codespell"]}
