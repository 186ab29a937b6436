"""What tests share: how the world is for a command."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import huggingface_hub.constants
import pytest

from captum_vit.models import default_crops


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in this empty folder, on a wide terminal, without a network, on the CPU."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("captum_vit.probes.devices.accelerator", lambda: None)
    return tmp_path / "empty"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the hub nor what torch.hub downloads from can be reached."""

    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)


@pytest.fixture
def few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards choose from fewer crops than they do where no photos are named, so that each test takes a moment."""
    crops = default_crops()[::9]
    monkeypatch.setattr("captum_vit.models.default_crops", lambda: crops)
