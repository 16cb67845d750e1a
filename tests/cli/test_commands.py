"""Every command on the list can be carried out."""

import importlib

import pytest

from lyceum.cli.main import COMMANDS


@pytest.mark.parametrize("command", [name for name, (module, _) in COMMANDS.items() if module == "stages"])
def test_every_stage_has_its_recipe(command: str) -> None:
    recipe = importlib.import_module(f"lyceum.recipes.{command}")
    assert callable(recipe.run)
    assert recipe.CONFIG.__doc__
