"""The documents made from code say what the code says."""

from __future__ import annotations

import re
import runpy
import shutil
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from foreman.config.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
GENERATED = runpy.run_path(str(ROOT / "docs" / "generate.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
#: The extras that each file of pinned packages covers.
PINNED = {"run": (), "embedded": ("embedded",), "dev": ("dev", "embedded")}


@pytest.mark.parametrize("name", GENERATED["PAGES"])
def test_generated_document_is_current(name):
    assert (ROOT / name).read_text("utf-8") == GENERATED["PAGES"][name](), "run `make docs`"


def test_a_stale_document_is_named_and_rewritten(tmp_path):
    # A copy of the folder, so that the script's idea of the tree's root is a folder of ours.
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    copied = runpy.run_path(str(tmp_path / "docs" / "generate.py"))
    states = tmp_path / "docs" / "reference" / "state-machine.md"
    states.write_text(states.read_text("utf-8").replace("job.expired", "job.gone"), "utf-8")
    assert copied["stale"]() == [".env.example", "docs/reference/state-machine.md"]
    assert copied["main"](["--check"]) == 1
    assert copied["main"]([]) == 0
    assert copied["main"](["--check"]) == 0
    (tmp_path / ".env.example").write_text("FOREMAN_ADDR=:1\n", "utf-8")
    assert copied["stale"]() == [".env.example"]


def test_the_example_environment_offers_every_setting_at_its_default():
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    offered = dict(line.removeprefix("#").split("=", 1) for line in lines if line.startswith("#FOREMAN_"))
    assert offered == {row.variable: row.default for row in SETTINGS}


def test_the_settings_page_has_one_row_for_each_setting():
    page = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    rows = re.findall(r"^\| `(FOREMAN_\w+)` \| (?:`(.*?)`|empty) \|", page, re.MULTILINE)
    assert rows == [(row.variable, row.default) for row in SETTINGS]


@pytest.mark.parametrize("name", PINNED)
def test_pinned_packages_satisfy_the_project_file(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    pinned = {
        canonicalize_name(found): version for found, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    }
    extras = [line for extra in PINNED[name] for line in PROJECT["optional-dependencies"][extra]]
    for wanted in map(Requirement, PROJECT["dependencies"] + extras):
        version = pinned.get(canonicalize_name(wanted.name))
        assert version, f"{wanted.name} is not pinned: run `make lock`"
        assert wanted.specifier.contains(version), f"{wanted} against {version}: run `make lock`"


def test_what_is_run_is_what_was_tested():
    def pins(name):
        return set(
            re.findall(r"^[\w.-]+==\S+", (ROOT / "requirements" / f"{name}.txt").read_text("utf-8"), re.MULTILINE)
        )

    assert pins("run") < pins("embedded") < pins("dev")


@pytest.mark.parametrize("name", PINNED)
def test_every_pinned_package_has_its_hashes(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) > 30
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
