"""Adapters that others publish: found by their entry points, chosen by rule, and harmless when broken."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from typer.testing import CliRunner

import captum_vit
from captum_vit.cli import app
from captum_vit.errors import ModelNameError, PluginError, PluginWarning, UnsupportedModelError
from captum_vit.probes.plugins import registry

CAIT = Path(__file__).parent / "third_party" / "captum-vit-cait"

ADAPTER = """
from timm.models.vision_transformer import VisionTransformer
from captum_vit import Adapter, PatchGrid, feed_forward, hookimpl

class Stranger(Adapter):
    family = "{family}"
    models = (VisionTransformer,)

    def sites(self, model):
        yield feed_forward("blocks.0", reads=model.blocks[0].mlp.fc2, grid=PatchGrid.patches(16), prefix_tokens=1)

@hookimpl
def captum_vit_adapters():
    return [Stranger()]
"""
HOOK = "from captum_vit import Adapter, hookimpl\n\n@hookimpl\ndef captum_vit_adapters():\n    return "

Install = Callable[..., None]


def pip_install(target: Path, project: Path) -> None:
    """Install a project as a stranger's user would, but into a folder of its own."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, target, project], check=True)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A function that installs a distribution, whose plugins are given as ``module=source``, for this test only.

    It writes what an installer leaves behind, which is all that entry points are read from; that a built one is served
    alike, the tests of the CaiT distribution say.
    """
    imported = set()

    def install(name: str, version: str = "1.0", **sources: str) -> None:
        target = tmp_path / f"{name}-{version}"
        record = target / f"{name.replace('-', '_')}-{version}.dist-info"
        record.mkdir(parents=True)
        for module, source in sources.items():
            (target / f"{module}.py").write_text(source)
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        plugins = "".join(f"{module} = {module}\n" for module in sources)
        (record / "entry_points.txt").write_text(f"[captum_vit]\n{plugins}")
        monkeypatch.syspath_prepend(target)
        imported.update(sources)
        registry.cache_clear()

    yield install
    registry.cache_clear()
    for module in imported:
        sys.modules.pop(module, None)


def small_vit() -> nn.Module:
    return timm.create_model("deit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_classes=5).eval()


class Normalize(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - 0.5) / 0.5


class Lightning(nn.Module):
    """A training module as people write it: the model is an attribute among losses and metrics."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.backbone(images)


@pytest.fixture(scope="module")
def with_cait(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process for which the CaiT distribution is installed."""
    target = tmp_path_factory.mktemp("cait")
    # From a copy: setuptools builds inside the project's folder.
    pip_install(target / "installed", Path(shutil.copytree(CAIT, target / "project")))
    # Without this run's pytest options, which would have the distribution's tests run these tests again.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return inherited | {"PYTHONPATH": str(target / "installed"), "OMP_NUM_THREADS": "1"}


def test_a_published_distribution_serves_a_new_family(with_cait: dict[str, str]) -> None:
    own_tests = f"""
import sys, captum_vit, pytest
assert "captum_vit_cait" not in sys.modules, "importing the package must import no plugin"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", "{CAIT}", "{CAIT / "test_cait.py"}"]))
"""
    run = subprocess.run([sys.executable, "-c", own_tests], env=with_cait, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "5 passed" in run.stdout


def test_the_command_line_names_the_distribution_of_each_adapter(with_cait: dict[str, str]) -> None:
    command = Path(sysconfig.get_path("scripts")) / "captum-vit"
    run = subprocess.run([command, "adapters"], env=with_cait, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr
    lines = {family: line for line in run.stdout.splitlines() for family in ("cait", "deit") if f" {family} " in line}
    assert "captum-vit-cait" in lines["cait"]
    assert "captum-vit" in lines["deit"]
    assert "captum-vit-cait" not in lines["deit"]


def test_without_the_distribution_the_packages_own_adapter_serves_the_family() -> None:
    model = timm.create_model("cait_xxs24_224", img_size=32, depth=1, embed_dim=32).eval()
    assert registry().find(model)[1].distribution == "captum-vit"


def test_a_third_partys_adapter_wins_over_the_built_in_one(install: Install) -> None:
    install("acme-vit", acme=ADAPTER.format(family="acme"))
    vit = captum_vit.adapt(small_vit())
    assert vit.family == "acme"
    assert [site.name for site in vit.sites] == ["blocks.0"]


def test_family_brings_the_built_in_adapter_back(install: Install) -> None:
    install("acme-vit", acme=ADAPTER.format(family="acme"))
    vit = captum_vit.adapt(small_vit(), family="deit")
    assert vit.family == "deit"
    assert [site.name for site in vit.sites] == ["blocks.0", "blocks.1"]


def test_two_third_parties_that_claim_one_model_are_an_error_that_names_both(install: Install) -> None:
    install("acme-vit", acme=ADAPTER.format(family="acme"))
    install("zenith-vit", zenith=ADAPTER.format(family="zenith"))
    with pytest.raises(PluginError) as error:
        captum_vit.adapt(small_vit())
    assert '"acme" of distribution "acme-vit"' in str(error.value)
    assert '"zenith" of distribution "zenith-vit"' in str(error.value)
    assert captum_vit.adapt(small_vit(), family="zenith").family == "zenith"


def test_two_third_parties_under_one_family_name_cannot_be_told_apart_by_it(install: Install) -> None:
    install("acme-vit", acme=ADAPTER.format(family="same"))
    install("zenith-vit", zenith=ADAPTER.format(family="same"))
    with pytest.raises(PluginError, match=r'"acme-vit".*"zenith-vit"; uninstall'):
        captum_vit.adapt(small_vit(), family="same")


def test_a_family_that_is_not_installed_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(
        PluginError, match=r'"mixer" is installed; did you mean .*mlp_mixer.*`captum-vit adapters` lists'
    ):
        captum_vit.adapt(small_vit(), family="mixer")


def test_a_family_that_does_not_serve_the_model_is_an_error() -> None:
    with pytest.raises(UnsupportedModelError, match='no adapter of family "swin" serves VisionTransformer'):
        captum_vit.adapt(small_vit(), family="swin")


BROKEN = {
    "raises": ("import a_module_nobody_has", "ModuleNotFoundError: No module named 'a_module_nobody_has'"),
    "unmarked": ("def captum_vit_adapters(): return []", "unmarked has no function captum_vit_adapters"),
    "text": (HOOK + "['deit']", "'deit' among its adapters, which is not an Adapter instance"),
    "a_class": (HOOK + "[Adapter]", "which is not an Adapter instance"),
    "nothing": (HOOK + "None", "captum_vit_adapters should return a list; it returned None"),
    "number": (HOOK + "7", "captum_vit_adapters should return a list; it returned 7"),
    "fails": (HOOK + "1 / 0", "ZeroDivisionError"),
    "nameless": (HOOK + "[type('Nameless', (Adapter,), {'sites': None})()]", "Nameless does not name its family"),
    "source": (HOOK.replace("adapters", "models") + "[7]", "7 among its sources of models, which is not a ModelSource"),
    "schemeless": (
        HOOK.replace("adapters", "models").replace("Adapter", "ModelSource")
        + "[type('Anonymous', (ModelSource,), {'untrained': None, 'published': None})()]",
        "Anonymous does not name its scheme",
    ),
    "recipe": (HOOK.replace("adapters", "recipes") + "[7]", "7 among its recipes, which is not a Recipe"),
    "argument": (ADAPTER.replace("adapters():", "adapters(models):").format(family="x"), "PluginValidationError"),
}


def test_a_broken_plugin_is_a_warning_that_names_its_distribution_and_the_others_load(install: Install) -> None:
    install("broken-vit", **{module: source for module, (source, _) in BROKEN.items()})
    install("sound-vit", sound=ADAPTER.format(family="sound"))
    with pytest.warns(PluginWarning) as warned:
        assert captum_vit.adapt(small_vit()).family == "sound"
    messages = {failure.entry_point: str(failure) for failure in registry().failures}
    told = sorted(f"{message} (docs: write-an-adapter)" for message in messages.values())
    assert sorted(str(warning.message) for warning in warned) == told
    for module, (_, reason) in BROKEN.items():
        assert f'plugin "{module}" of distribution "broken-vit" could not be loaded' in messages.pop(module)
        assert any(reason in str(warning.message) and f'"{module}"' in str(warning.message) for warning in warned)
    assert not messages
    families = {registered.adapter.family for registered in registry().adapters}
    assert families >= {"coat", "convit", "deit", "pit", "sound", "swin", "twins"}


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ('stem = "stem.conv"', 'names "stem.conv" as the module that receives the image'),
        ("sites = lambda self, model: iter(())", "lists no site in VisionTransformer"),
        ("sites = lambda self, model: 2 * list(super(type(self), self).sites(model))", "blocks_0, blocks_1"),
    ],
)
def test_an_adapters_mistake_names_its_distribution(install: Install, mistake: str, message: str) -> None:
    install(
        "wrong-vit",
        wrong=f"""
from captum_vit import hookimpl
from captum_vit_adapters.deit import DeiT

class Wrong(DeiT):
    family = "wrong"
    {mistake}

@hookimpl
def captum_vit_adapters():
    return [Wrong()]
""",
    )
    with pytest.raises(PluginError, match=re.escape(message)) as error:
        captum_vit.adapt(small_vit())
    assert 'adapter "wrong" of distribution "wrong-vit"' in str(error.value)


SOURCE = """
import torch
from timm.models import VisionTransformer
from captum_vit import LoadedModel, ModelSource, Preprocessing, hookimpl
from captum_vit.errors import ModelNameError

class Lab(ModelSource):
    scheme = "{scheme}"

    def check_name(self, name):
        if name != "small":
            raise ModelNameError(f'the lab has no model "{{name}}"; it has small')

    def untrained(self, name):
        model = VisionTransformer(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=3, num_classes=5)
        return LoadedModel(model, preprocessing=Preprocessing((32, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))

    def published(self, name):
        loaded = self.untrained(name)
        torch.nn.init.constant_(loaded.model.cls_token, 7)
        return loaded

@hookimpl
def captum_vit_models():
    return [Lab()]
"""


def test_a_third_party_gives_models_by_a_scheme_of_its_own_to_python_and_to_the_commands(
    install: Install, tmp_path: Path
) -> None:
    install("lab-models", lab=SOURCE.format(scheme="lab"))
    vit = captum_vit.load_model("lab:small")
    assert vit.preprocessing.mean == (0.1, 0.2, 0.3)
    assert bool((vit.model.cls_token == 7).all())
    assert not vit.training
    drawn = [captum_vit.load_model("lab:small", random_weights=True, seed=seed) for seed in (1, 1, 2)]
    first, second, other = (each.model.head.weight for each in drawn)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    torch.save({"state_dict": {f"module.{k}": v for k, v in drawn[0].model.state_dict().items()}}, tmp_path / "w.pth")
    assert torch.equal(captum_vit.load_model("lab:small", checkpoint=tmp_path / "w.pth").model.head.weight, first)
    with pytest.raises(ModelNameError, match='no model "big"; it has small'):
        captum_vit.load_model("lab:big")
    listed = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["sites", "lab:small"])
    assert listed.exit_code == 0, listed.output
    assert "lab:small: family deit, 2 sites, 32×32 pixels" in listed.stdout
    wrong = CliRunner().invoke(app, ["sites", "lap:small"])
    assert wrong.exit_code == 2
    assert "did you mean lab:small?" in wrong.stderr


def test_a_third_partys_scheme_wins_over_the_built_in_one_and_two_are_an_error(install: Install) -> None:
    install("lab-models", lab=SOURCE.format(scheme="torchvision"))
    assert bool((captum_vit.load_model("torchvision:small").model.cls_token == 7).all())
    install("other-models", other=SOURCE.format(scheme="torchvision"))
    with pytest.raises(PluginError, match=r'"lab-models".*"other-models".*give models as torchvision:NAME'):
        captum_vit.load_model("torchvision:small")


def test_a_plugin_can_bring_a_recipe_and_nothing_else(install: Install) -> None:
    install(
        "slow-vit",
        slow="""
from dataclasses import replace
from captum_vit import hookimpl
from captum_vit.optvis.recipes import RECIPES

@hookimpl
def captum_vit_recipes():
    return [replace(RECIPES["lucent"], name="slow", steps=2)]
""",
    )
    (render,) = captum_vit.render(captum_vit.adapt(small_vit()), "blocks.1:3", recipe="slow", progress=False)
    assert render.settings["recipe"] == "slow"
    assert render.history.shape == (2,)


def test_the_command_line_lists_plugins_that_failed(install: Install) -> None:
    install("broken-vit", raises="import a_module_nobody_has")
    listed = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["adapters"])
    assert listed.exit_code == 0
    failed = next(line for line in listed.stdout.splitlines() if "broken-vit" in line)
    assert "raises" in failed
    assert "No module named 'a_module_nobody_has'" in failed
    assert " swin " in listed.stdout


def test_only_the_first_of_two_installations_on_the_path_counts(install: Install) -> None:
    install("acme-vit", version="1.0", acme_old=ADAPTER.format(family="old"))
    install("acme-vit", version="2.0", acme=ADAPTER.format(family="acme"))
    assert captum_vit.adapt(small_vit()).family == "acme"


@pytest.mark.parametrize("wrap", [lambda vit: nn.Sequential(Normalize(), vit), Lightning, lambda vit: vit])
def test_adapt_finds_the_one_supported_model_inside_a_wrapper(wrap: Callable[[nn.Module], nn.Module]) -> None:
    wrapper = wrap(small_vit()).eval()
    images = torch.rand(2, 3, 32, 32)
    expected = wrapper(images)
    with captum_vit.adapt(wrapper) as vit:
        assert vit.family == "deit"
        assert [site.name for site in vit.sites] == ["blocks.0", "blocks.1"]
        assert torch.equal(vit(images), expected)
        assert vit.patch_map(images, "blocks.1:3").shape == (2, 2, 2)


def test_a_model_shared_by_two_attributes_is_one_model() -> None:
    wrapper = Lightning(small_vit())
    wrapper.ema = wrapper.backbone
    assert captum_vit.adapt(wrapper.eval()).family == "deit"


def test_several_supported_models_are_an_error_that_lists_them() -> None:
    pair = nn.ModuleDict({"student": small_vit(), "teacher": small_vit()}).eval()
    with pytest.raises(UnsupportedModelError) as error:
        captum_vit.adapt(pair)
    assert "student (VisionTransformer), teacher (VisionTransformer)" in str(error.value)


def test_no_supported_model_is_an_error_that_lists_what_there_is() -> None:
    net = nn.Sequential(Normalize(), nn.Conv2d(3, 4, 3)).eval()
    with pytest.raises(UnsupportedModelError) as error:
        captum_vit.adapt(net)
    assert "serves Sequential or a module in it; it holds 0 (Normalize), 1 (Conv2d)" in str(error.value)
    assert "torch.nn.modules.container.Sequential" in str(error.value)
    assert "captum_vit.draft(model)" in str(error.value)
