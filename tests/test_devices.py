"""Devices by their words, the accelerator that is chosen, and the warning where one stands idle."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

import captum_vit
from captum_vit import cli
from captum_vit.errors import DeviceError, IdleAcceleratorWarning
from captum_vit.probes import devices

CPU = torch.device("cpu")


@pytest.fixture
def an_accelerator(monkeypatch):
    """A machine that says to have one; it is torch's device without memory, on which nothing computes."""
    monkeypatch.setattr(devices, "accelerator", lambda: "meta")
    devices._warn_of_idle.cache_clear()
    yield
    devices._warn_of_idle.cache_clear()


@pytest.mark.parametrize("word", ["auto", "cpu", "cpu:0", "xpu", "xpu:1"])
def test_words_that_may_name_a_device_pass(word):
    assert devices.check_device(word) == word


@pytest.mark.parametrize("word", ["", "gpu", "cuda0", "cuda:", "cuda:x", "CUDA", "auto:1", "meta", "cpu, cuda", ":1"])
def test_words_that_name_none_are_refused_and_right_ones_shown(word):
    for take in (devices.check_device, devices.find_device):
        with pytest.raises(DeviceError, match="no kind of device, such as cpu, cuda, cuda:1, mps or xpu") as error:
            take(word)
        assert f'no device "{word}" here' in str(error.value)


def test_a_kind_that_a_distribution_brings_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(devices, "entry_points", lambda group: ["one"] if group == "torch.backends" else [])
    assert devices.check_device("npu:0") == "npu:0"
    with pytest.raises(DeviceError, match='no device "npu:0" here'):
        devices.find_device("npu:0")


@pytest.mark.parametrize("word", ["cuda", "cuda:1"])
def test_without_a_driver_there_is_no_cuda(word, monkeypatch):
    monkeypatch.setattr(devices, "_NODES", ())
    monkeypatch.setattr(devices, "_LIBRARIES", ("no-such-library.so",))
    with pytest.raises(DeviceError, match="no driver of NVIDIA or AMD"):
        devices.check_device(word)


@pytest.mark.parametrize("there", ["node", "library"])
def test_with_a_driver_torch_decides(there, monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_NODES", (str(tmp_path),) if there == "node" else ())
    monkeypatch.setattr(devices, "_LIBRARIES", ("any",))
    monkeypatch.setattr(devices, "_loads", lambda library: there == "library")
    assert devices.check_device("cuda:1") == "cuda:1"
    monkeypatch.setattr(torch, "ones", lambda *_, **__: (_ for _ in ()).throw(AssertionError("not compiled\nat all")))
    with pytest.raises(DeviceError, match=r'no device "cuda:1" here \(not compiled\)'):
        devices.find_device("cuda:1")


def test_mps_is_apples(monkeypatch):
    monkeypatch.setattr(devices.sys, "platform", "linux")
    with pytest.raises(DeviceError, match="Apple"):
        devices.check_device("mps")
    monkeypatch.setattr(devices.sys, "platform", "darwin")
    assert devices.check_device("mps") == "mps"


def test_without_an_accelerator_auto_is_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "accelerator", lambda: None)
    assert devices.find_device() == devices.find_device("cpu") == (CPU, "the CPU")


def test_an_accelerator_that_does_not_compute_is_passed_over_and_told(an_accelerator):
    place = devices.find_device("auto")
    assert place.device == CPU
    assert place.words.startswith("the CPU, as meta fails (")


def test_an_accelerator_is_taken_with_its_number_and_name(monkeypatch):
    ones = SimpleNamespace(device=torch.device("cuda", 0), sum=lambda: 2.0)
    monkeypatch.setattr(torch, "ones", lambda *_, device: ones)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(devices, "accelerator", lambda: "cuda")
    assert devices.find_device() == (torch.device("cuda:0"), "cuda:0 (NVIDIA H100)")
    ones.device = torch.device("mps", 0)  # torch tells no name there
    assert devices.find_device().words == "mps:0"


@pytest.mark.parametrize("there", ["cuda", "mps", "xpu", None])
def test_older_releases_of_torch_are_asked_for_one_kind_after_another(there, monkeypatch):
    monkeypatch.delattr(torch, "accelerator", raising=False)
    for kind, module in {"cuda": torch.cuda, "mps": torch.backends.mps, "xpu": torch.xpu}.items():
        monkeypatch.setattr(module, "is_available", lambda kind=kind: kind == there)
    assert devices.accelerator() == there


@pytest.mark.skipif(not hasattr(torch, "accelerator"), reason="torch.accelerator came with torch 2.6")
def test_newer_releases_tell_it_themselves(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    assert devices.accelerator() == "xpu"
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert devices.accelerator() is None


class TestIdleAccelerator:
    def work(self, model):
        """Stands for a public function that works long."""
        devices.warn_if_idle(model)

    def test_it_is_told_once_at_the_callers_line_and_what_to_do(self, an_accelerator):
        with pytest.warns(IdleAcceleratorWarning, match=r'vit\.to\("meta"\)') as caught:
            self.work(torch.nn.Linear(1, 1))
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.work(torch.nn.Linear(1, 1))

    def test_a_model_that_is_there_is_no_reason(self, an_accelerator):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.work(torch.nn.Linear(1, 1, device="meta"))
            self.work(torch.nn.Identity())

    def test_without_an_accelerator_there_is_none(self, monkeypatch):
        monkeypatch.setattr(devices, "accelerator", lambda: None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.work(torch.nn.Linear(1, 1))


COMMANDS = {
    "card": ["card", "--steps", "1", "--images", "PHOTO"],
    "gallery": ["gallery", "deit_micro", "blocks.1:1", "--steps", "1", "--images", "PHOTO"],
    "render": ["render", "deit_micro", "blocks.1:1", "--steps", "1", "--out", "renders"],
    "patch-map": ["patch-map", "deit_micro", "blocks.1:1", "PHOTO", "--out", "maps"],
    "attribute": ["attribute", "deit_micro", "blocks.1:1", "PHOTO", "--method", "saliency", "--out", "maps"],
    "top-images": ["top-images", "deit_micro", "--images", "PHOTO", "--out", "top.safetensors"],
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_says_on_standard_error_where_it_computes(command):
    photo = str(captum_vit.models.default_photos()[0])
    result = CliRunner().invoke(cli.app, [photo if word == "PHOTO" else word for word in command])
    assert result.exit_code == 0, result.output
    assert result.stderr.count("Computing on the CPU.\n") == 1
    assert "Computing" not in result.stdout


@pytest.mark.usefixtures("folder")
def test_an_idle_accelerator_is_no_news_to_who_asked_for_the_cpu(an_accelerator):
    result = CliRunner().invoke(cli.app, [*COMMANDS["render"], "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "meta" not in result.stderr
