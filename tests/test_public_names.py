"""The names that users import: functions are functions, and modules are found where documentation has shown them."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import captum_vit
from captum_vit.moved import MOVED


@pytest.mark.parametrize("name", captum_vit.__all__)
def test_every_public_name_is_there(name):
    assert getattr(captum_vit, name) is not None
    assert name in dir(captum_vit)


@pytest.mark.parametrize(("earlier", "home"), MOVED.items())
def test_a_module_is_the_same_under_its_earlier_name(earlier, home):
    assert import_module(earlier) is import_module(home)
    assert import_module(home).__spec__.name == home


@pytest.mark.parametrize("name", ["render", "render_vis", "top_images", "adapt", "attribute", "load"])
def test_no_module_hides_a_function(name):
    before = getattr(captum_vit, name)
    for module in ("optvis.rendering", "optvis.lucent", "ranking.search", "probes.adapted", "attribution", "models"):
        import_module(f"captum_vit.{module}")
    assert callable(before)
    assert getattr(captum_vit, name) is before


def test_importing_the_package_imports_nothing_that_takes_long():
    heavy = "{'torch', 'timm', 'lucent', 'captum', 'matplotlib', 'pluggy'}"
    program = f"import sys, captum_vit; print(sorted({heavy} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
