"""The distributions: hold what they should, byte for byte, and work where nothing of the checkout is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from PIL import Image

CHECKOUT = Path(__file__).parents[1]
PACKAGES = {"captum_vit": "captum_vit", "adapters": "captum_vit_adapters"}


def built(folder: Path, sources: Path = CHECKOUT) -> dict[str, Path]:
    """Wheel and source distribution by their suffixes, built as releases are, from a copy of the sources."""
    for package in (*PACKAGES, ".ci"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(sources / package, folder / package, ignore=ignored, copy_function=shutil.copy)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(sources / file, folder)
    paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1700000000", "PATH": paths}
    subprocess.run([folder / ".ci" / "build", folder / "dist"], check=True, env=environment, capture_output=True)
    return {path.suffix: path for path in (folder / "dist").iterdir()}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return built(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def wheel(distributions: dict[str, Path]) -> Path:
    return distributions[".whl"]


def test_the_same_sources_give_the_same_bytes(distributions: dict[str, Path], tmp_path: Path) -> None:
    again = built(tmp_path, sources=distributions[".whl"].parents[1])
    assert sorted(again) == [".gz", ".whl"]
    for suffix, path in distributions.items():
        assert again[suffix].name == path.name
        assert again[suffix].read_bytes() == path.read_bytes()


def test_the_source_distribution_holds_what_the_wheel_is_built_from(distributions: dict[str, Path]) -> None:
    with tarfile.open(distributions[".gz"]) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO", "adapters/deit.py"} <= set(members)
    assert "captum_vit/models/deit_micro.safetensors" in members
    assert not [name for name in members if name.startswith(("tests", "docs", "captum_vit/models/training"))]
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 1_700_000_000)}


@pytest.fixture(scope="module")
def contents(wheel: Path) -> dict[str, int]:
    """Path and size in bytes of each file in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {member.filename: member.file_size for member in archive.infolist()}


def test_the_wheel_holds_every_module_of_both_packages_and_nothing_else(contents: dict[str, int]) -> None:
    sources = {
        f"{installed}/{source.relative_to(CHECKOUT / package).as_posix()}"
        for package, installed in PACKAGES.items()
        for source in (CHECKOUT / package).rglob("*.py")
        if "training" not in source.parts  # the maintainers', of no use without a checkout
    }
    assert {name for name in contents if name.endswith(".py")} == sources
    top_level = {name.split("/")[0] for name in contents}
    (metadata,) = top_level - set(PACKAGES.values())
    assert metadata.endswith(".dist-info")


def test_the_wheel_holds_types_licence_models_photos_and_templates(contents: dict[str, int]) -> None:
    assert "captum_vit/py.typed" in contents
    assert any(name.endswith("licenses/LICENSE") for name in contents)
    models = {name: size for name, size in contents.items() if name.endswith(".safetensors")}
    assert models
    assert all(0 < size <= 3_000_000 for size in models.values()), models
    photos = [name for name in contents if name.startswith("captum_vit/models/photos/") and name.endswith(".jpg")]
    assert len(photos) >= 2
    for folder in ("captum_vit/cards/templates", "captum_vit/atlas/page/templates", "captum_vit/atlas/page/static"):
        files = {path.name for path in (CHECKOUT / folder).iterdir()}
        assert files == {name.rpartition("/")[2] for name in contents if name.startswith(f"{folder}/")}


def test_each_file_of_adapters_has_its_entry_point(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        entry_points = ConfigParser()
        entry_points.read_string(archive.read(name).decode())
    plugins = [file.stem for file in (CHECKOUT / "adapters").glob("*.py") if "@hookimpl" in file.read_text("utf-8")]
    assert {"deit", "swin", "timm_models", "transformers_models"} <= set(plugins)
    assert sorted(entry_points["captum_vit"].values()) == sorted(f"captum_vit_adapters.{name}" for name in plugins)
    assert "captum-vit" in entry_points["console_scripts"]


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel; only what the wheel depends on comes from the present one."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    # Last, or pip would take a captum-vit of the present environment for an older one to replace. Its folders come
    # after the new environment's own, and as .pth files in them are not read, an editable install stays outside.
    (site_packages,) = folder.glob("lib/python*/site-packages")
    present = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (site_packages / "dependencies.pth").write_text("\n".join(present))
    return folder


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def run(environment: Path, command: str, *arguments: str, cwd: Path) -> str:
    """Standard output of a command of the fresh environment, run without a network; fails unless it succeeds."""
    unreachable = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [environment / "bin" / command, *arguments],
        cwd=cwd,
        env=variables | unreachable | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_installed_packages_are_the_wheels(environment: Path, empty: Path) -> None:
    program = "import sys, importlib.util as u; print(*(u.find_spec(name).origin for name in sys.argv[1:]), sep='\\n')"
    files = run(environment, "python", "-c", program, *PACKAGES.values(), cwd=empty).splitlines()
    assert len(files) == len(PACKAGES)
    assert all(Path(file).is_relative_to(environment) for file in files), files


def test_the_card_command_without_arguments_writes_a_picture(environment: Path, empty: Path) -> None:
    printed = run(environment, "captum-vit", "card", cwd=empty)
    (written,) = empty.iterdir()
    assert written.suffix == ".png"
    assert written.name in printed
    with Image.open(written) as card:
        card.load()
        assert min(card.size) >= 200
        colours = card.convert("RGB").getcolors(maxcolors=card.width * card.height)
    assert colours is not None
    assert len(colours) > 1000  # photographs and a rendering, not a blank page
