"""Searching folders: what a person expects is found, links included, and what is left out is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder

from captum_vit.data.images import find_images, open_rgb, read_list, search_images
from captum_vit.errors import ImageError
from captum_vit.models import default_photos

SUFFIXES = (
    "jpg JPG jpeg Jpeg jfif jpe png apng gif webp avif tif TIFF bmp ppm pgm jp2 mpo ico tga qoi".split()  # noqa: SIM905
)


def names(found, top: Path) -> list[str]:
    return [path.relative_to(top).as_posix() for path in found]


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(default_photos()[0].read_bytes())
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_suffixes_of_images_are_found_in_capitals_too(suffix: str, tmp_path: Path):
    photo(tmp_path / "folder.with.dots" / f"photo.{suffix}")
    assert names(find_images([tmp_path]), tmp_path) == [f"folder.with.dots/photo.{suffix}"]
    open_rgb(find_images([tmp_path])[0])  # whatever it is called


def test_hidden_files_and_folders_count(tmp_path: Path):
    for name in (".hidden.jpg", ".folder/a.jpg", "a/.b/c.png"):
        photo(tmp_path / name)
    assert names(find_images([tmp_path]), tmp_path) == [".folder/a.jpg", ".hidden.jpg", "a/.b/c.png"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_without_a_suffix_the_content_tells(kind: str, tmp_path: Path):
    Image.new("RGB", (9, 9)).save(tmp_path / "3f2504e04f89", kind)
    (tmp_path / "README").write_text("#define nothing")
    (tmp_path / "LICENSE").touch()
    (tmp_path / "weights").write_bytes(bytes(10_000))
    found = search_images([tmp_path])
    assert names(found.images, tmp_path) == ["3f2504e04f89"]
    assert [path.name for path, _ in found.left_out] == ["LICENSE", "README", "weights"]


def test_links_are_followed_as_by_torchvision(tmp_path: Path):
    store, data = tmp_path / "store", tmp_path / "data"
    for name in ("a.png", "deep/b.png"):
        photo(store / name)
    photo(data / "dogs" / "c.png")
    (data / "cats").symlink_to(store)
    (data / "birds").symlink_to("cats")  # a link to a link
    (data / "dogs" / "d.png").symlink_to(store / "a.png")
    expected = sorted(path for path, _ in ImageFolder(data).samples)
    assert len(expected) == 6
    assert [str(path) for path in find_images([data])] == expected
    assert not search_images([data]).left_out


def test_links_back_are_not_followed_and_told(tmp_path: Path):
    photo(tmp_path / "a" / "b" / "photo.png")
    (tmp_path / "a" / "b" / "top").symlink_to(tmp_path)
    (tmp_path / "a" / "here").symlink_to(".")
    (tmp_path / "a" / "ring").symlink_to("ring")
    found = search_images([tmp_path])
    assert names(found.images, tmp_path) == ["a/b/photo.png"]
    reasons = {path.relative_to(tmp_path).as_posix(): reason for path, reason in found.left_out}
    assert "back to a folder that it is in" in reasons["a/b/top"]
    assert "back to a folder that it is in" in reasons["a/here"]
    assert "a link to nothing" in reasons["a/ring"]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=6))
@settings(max_examples=25, deadline=None)
def test_any_tangle_of_links_comes_to_an_end_and_no_folder_is_missed(tmp_path_factory, links):
    top = tmp_path_factory.mktemp("tangle")
    for n in range(5):
        photo(top / str(n) / f"{n}.png")
    for n, (inside, target) in enumerate(links):
        (top / str(inside) / f"link{n}").symlink_to(top / str(target))
    found = search_images([top]).images
    assert {path.resolve() for path in found} == {top / str(n) / f"{n}.png" for n in range(5)}
    assert len(set(found)) == len(found)
    for path in found:  # no folder twice on a way
        ways = [os.path.realpath(parent) for parent in path.parents]
        assert len(set(ways)) == len(ways)


def test_folders_that_all_link_to_each_other_are_searched_in_no_time(tmp_path: Path):
    for n in range(12):
        photo(tmp_path / str(n) / f"{n}.png")
        for other in range(12):
            (tmp_path / str(n) / f"to{other}").symlink_to(tmp_path / str(other))
    found = search_images([tmp_path])
    assert {path.resolve() for path in found.images} == {tmp_path / str(n) / f"{n}.png" for n in range(12)}
    assert len(found.images) < 12 * 40
    assert any("linked to from many places" in note for note in found.notes())


def test_everything_is_found_or_told(tmp_path: Path):
    photo(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "phone.heic").touch()
    (tmp_path / "old.jpg~").touch()
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "folder.jpg").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
    found = search_images([tmp_path])
    assert names(found.images, tmp_path) == ["a.jpg"]
    told = {path.name for path, _ in found.left_out}
    assert told == {path.name for path in tmp_path.iterdir()} - {"a.jpg", "folder.jpg"}
    notes = found.notes()
    assert len(notes) == len({reason for _, reason in found.left_out})
    assert any(note.startswith("3 left out") and "phone.heic" in note for note in notes)
    assert any("gone.jpg" in note and "link to nothing" in note for note in notes)


def test_many_left_out_are_counted_and_some_named(tmp_path: Path):
    photo(tmp_path / "a.jpg")
    for n in range(20):
        (tmp_path / f"{n:02}.txt").touch()
    (note,) = search_images([tmp_path]).notes(most=2)
    assert note.startswith("20 left out")
    assert note.endswith(f"{tmp_path / '00.txt'}, {tmp_path / '01.txt'}, …")


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "secret" / "b.jpg")
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # file modes do not stop root
    found = search_images([tmp_path])
    assert names(found.images, tmp_path) == ["a.jpg"]
    assert found.left_out == ((tmp_path / "secret", "not readable"),)


def test_a_folder_of_other_files_says_what_is_in_it(tmp_path: Path):
    (tmp_path / "a.heic").touch()
    (tmp_path / "b.heic").touch()
    with pytest.raises(ImageError, match=r"no image in .*2 left out, not an image.*a\.heic") as caught:
        find_images([tmp_path])
    assert "\n" not in str(caught.value)


def test_a_named_file_is_taken_as_it_is_and_order_is_kept(tmp_path: Path):
    for name in ("z/b.jpg", "z/a.jpg", "a/c.jpg"):
        photo(tmp_path / name)
    (tmp_path / "odd.heic").touch()
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    places = [tmp_path / "z", tmp_path / "odd.heic", tmp_path / "gone.jpg", tmp_path / "a"]
    assert names(find_images(places), tmp_path) == ["z/a.jpg", "z/b.jpg", "odd.heic", "gone.jpg", "a/c.jpg"]


def test_a_list_that_windows_wrote_names_its_first_file_too(tmp_path: Path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.png\r\nb.png\r\n")
    assert names(read_list(tmp_path / "list.txt"), tmp_path) == ["a.png", "b.png"]


def test_a_command_counts_and_names_what_it_leaves_out(tmp_path: Path, monkeypatch):
    from typer.testing import CliRunner

    from captum_vit.cli import app
    from captum_vit.models import default_photos

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(default_photos()[0].read_bytes())
    (tmp_path / "photos" / "notes.docx").write_bytes(b"words")
    monkeypatch.setenv("COLUMNS", "200")
    asked = ["patch-map", "deit_micro", "blocks.1:1", str(tmp_path / "photos"), "--out", str(tmp_path / "maps")]
    done = CliRunner().invoke(app, [*asked, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "1 left out" in done.stderr
    assert "notes.docx" in done.stderr
