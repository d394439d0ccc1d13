"""The bundle's source: two files, no code, names that are really there."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from fedloupe_server.hub.flower import BundleMissing, Flower, stage

SOURCE = Path(__file__).parents[3] / "configs" / "app"


class TestTheBundle:
    def test_it_holds_no_code(self):
        assert sorted(path.name for path in SOURCE.rglob("*") if path.is_file()) == ["LICENSE", "pyproject.toml"]
        app = tomllib.loads((SOURCE / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
        assert app["fab-include"] == ["LICENSE"]

    @pytest.mark.parametrize("component", ["serverapp", "clientapp"])
    def test_its_references_are_plain_assignments_in_what_is_installed(self, component):
        # Flower finds the attribute by reading the source: an annotated assignment would be missed.
        components = tomllib.loads((SOURCE / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["components"]
        module, _, attribute = components[component].partition(":")
        side = {"serverapp": "server", "clientapp": "client"}[component]
        source = SOURCE.parents[1] / side / "src" / Path(*module.split(".")).with_suffix(".py")
        assigned = [
            node.targets[0].id
            for node in ast.parse(source.read_text()).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        ]
        assert attribute in assigned

    def test_it_builds_to_the_same_bytes_with_and_without_the_client_installed(self, tmp_path, monkeypatch):
        # Hospitals approve by hash; the stand-in for a missing client package must stay outside.
        flower = Flower(tmp_path / "flower", tmp_path / "ca.crt", 1)
        plain = flower.build(stage(SOURCE, tmp_path / "one"))
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        staged = stage(SOURCE, tmp_path / "two")
        assert (staged / "fedloupe_client" / "courier" / "app.py").read_text() == "app = None\n"
        again = flower.build(staged)
        assert (again.name, again.read_bytes()) == (plain.name, plain.read_bytes())

    def test_a_folder_without_a_bundle_is_named(self, tmp_path):
        with pytest.raises(BundleMissing, match=r"no pyproject\.toml"):
            stage(tmp_path, tmp_path / "staged")
