"""Every command is readable on every console: none ends because of an encoding, and no word of it is lost."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from pkgutil import resolve_name

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from captum_vit import cli
from captum_vit.cli import console
from captum_vit.models import default_photos
from captum_vit.storage.files import shown

PHOTO = default_photos()[0]
ENCODINGS = ["ascii", "latin-1", "cp1252", "cp437", "utf-8"]
TELLING = {
    "help": ["--help"],
    "help of a command": ["render", "--help"],
    "sites": ["sites", "deit_micro"],
    "adapters": ["adapters"],
    "a wrong word": ["card", "deit_mikro…“é”"],
    "a wrong range": ["render", "deit_micro", "blocks.4:0-9999", "--out", "renders"],
    "a wrong option": ["card", "--stéps", "–1"],
}
WORKING = {
    "card": ["card", "deit_micro", "blocks.4:42", "--steps", "1", "-k", "1", "--images", "photos"],
    "gallery": ["gallery", "deit_micro", "blocks.4:0-1", "--steps", "1", "-k", "1", "--images", "photos"],
    "render": ["render", "deit_micro", "blocks.4:42", "--steps", "1", "--out", "renders…"],
    "patch-map": ["patch-map", "deit_micro", "blocks.4:42", str(PHOTO), "--out", "maps→"],
    "attribute": ["attribute", "deit_micro", "blocks.4:42", str(PHOTO), "--out", "maps", "--method", "saliency"],
    "top-images": ["top-images", "deit_micro", "--images", "photos", "--out", "top.safetensors"],
}


@pytest.fixture
def photos(folder):
    """Two photos beside a command, in ``photos``: what it says of many says no more."""
    (folder / "photos").mkdir()
    for name in ("one.jpg", "two.jpg"):
        (folder / "photos" / name).write_bytes(PHOTO.read_bytes())


def printed_by(arguments, encoding, exit_code=0):
    result = CliRunner(charset=encoding).invoke(cli.app, arguments)
    assert result.exit_code == exit_code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return (result.stdout_bytes + result.stderr_bytes).decode(encoding)


def is_readable(printed):
    return "�" not in printed and not any(f"\\u{ord(each):04x}" in printed for each in console.IN_PLAIN_LETTERS)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", TELLING)
def test_commands_are_readable(folder, command, encoding):
    printed = printed_by(TELLING[command], encoding, 2 if command.startswith("a wrong") else 0)
    assert is_readable(printed)
    if command == "sites":
        assert ("8×8" if encoding != "ascii" else "8x8") in printed or encoding == "cp437"
        assert "64" in printed


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])  # which has the fewest characters and which has them all
@pytest.mark.parametrize("command", WORKING)
def test_commands_that_work_are_readable_too(photos, command, encoding):
    printed = printed_by(WORKING[command], encoding)
    assert printed
    assert is_readable(printed)
    for narrower in ENCODINGS:
        assert is_readable(printed.encode(narrower, "captum-vit.plain").decode(narrower))


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii:strict"}, {"LC_ALL": "C"},
     {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=str,
)  # fmt: skip
def test_a_process_is_readable_too(tmp_path, environment):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(PHOTO.read_bytes())
    program = [sys.executable, "-c", "from captum_vit.cli import main; main()"]
    base = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    environment = base | environment | {"OMP_NUM_THREADS": "1"}
    command = [*program, "patch-map", "deit_micro", "blocks.4:42", str(tmp_path), "--out", "maps"]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert b"caf\\xe9.png" in done.stdout
    assert len(list((tmp_path / "maps").iterdir())) == 2


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp1252", "cp437", "shift_jis", "utf-8", "utf-16"]))
def test_any_text_is_written_in_any_encoding(text, encoding):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors="captum-vit.plain", newline="")
    stream.write(text)
    stream.flush()
    back = written.getvalue().decode(encoding)
    if encoding == "utf-8" and not any("\ud800" <= each <= "\udfff" for each in text):
        assert back == text


@given(st.text(st.characters(blacklist_categories=[])))
def test_what_is_shown_is_one_line_of_text(text):
    line = shown(text)
    line.encode("utf-8")
    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line
    assert shown(line) == line
    if text.isprintable():
        assert line == text


def test_bytes_that_are_no_text_are_shown_as_a_shell_shows_them():
    assert shown(Path(os.fsdecode(b"caf\xe9\n.png"))) == "caf\\xe9\\x0a.png"


KEPT = {
    "render": (["render", "deit_micro", "blocks.4:0-3", "--steps", "1", "--batch-size", "1", "--out", "out"],
               "captum_vit.optvis.loop.RenderLoop.finish", "the neurons that were finished are in out, and the same"),
    "card": (["card", "deit_micro", "blocks.4:0-11", "--steps", "1", "--images", "photos"],
             "captum_vit.optvis.loop.RenderLoop.finish", None),
    "card with renders": (["card", "deit_micro", "blocks.4:0-11", "--steps", "1", "--images", "photos",
                           "--renders", "out"],
                          "captum_vit.optvis.loop.RenderLoop.finish", "the optimized images that were finished are in"),
    "patch-map": (["patch-map", "deit_micro", "blocks.4:42", str(PHOTO.parent), "--out", "out"],
                  "captum_vit.plots.save_figure", "the photos that were finished are in out"),
}  # fmt: skip


@pytest.mark.parametrize("command", KEPT)
def test_ctrl_c_says_what_is_kept_and_it_is(folder, photos, command, monkeypatch):
    arguments, place, kept = KEPT[command]
    module, _, name = place.rpartition(".")
    target = resolve_name(module)
    work, calls = getattr(target, name), []

    def interrupted(*given, **settings):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return work(*given, **settings)

    monkeypatch.setattr(target, name, interrupted)
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 130, result.output
    line = result.stderr.strip().splitlines()[-1]
    files = [path.name for path in folder.rglob("*") if path.is_file() and path.parent.name != "photos"]
    if kept:
        assert line.startswith(f"Interrupted; {kept}")
        assert len(files) >= 2
    else:
        assert line == "Interrupted, and no file is half-written."
        assert not files
    assert not [name for name in files if "partial" in name]


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_an_interrupted_process_keeps_what_it_says(tmp_path):
    program = [sys.executable, "-c", "from captum_vit.cli import main; main()"]
    command = [*program, "render", "deit_micro", "blocks.4:all", "--steps", "4", "--batch-size", "2", "--out", "out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    try:
        while len(list(tmp_path.glob("out/*.json"))) < 2 and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=900)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"the neurons that were finished are in out" in stderr.replace(b"\n", b" ")
    whole, pictures = ({path.stem for path in tmp_path.glob(f"out/*.{kind}")} for kind in ("json", "png"))
    assert len(whole) >= 2
    assert whole <= pictures  # the record of a render is written last
    assert len(pictures) <= len(whole) + 1


@pytest.mark.parametrize(("options", "printed"), [([], ""), (["-W", "default"], "ERROR:root:told twice\n")])
def test_what_libraries_log_beside_their_errors_is_not_told_twice(options, printed):
    program = "import logging; from captum_vit.cli import console; console.quiet(); logging.error('told twice')"
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == printed
