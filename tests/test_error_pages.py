"""Errors and warnings name the page of the documentation that helps: in tracebacks, and at the end of a line."""

from __future__ import annotations

import copy
import pickle
import sys
import traceback
import warnings
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import captum_vit
from captum_vit import errors
from captum_vit.cli import app

PAGES = [page.stem for page in (Path(__file__).parents[1] / "docs").rglob("*.md") if "_build" not in page.parts]
ERRORS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.CaptumViTError)]
WARNINGS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Warning)]
WITH_PAGE = [each for each in ERRORS if each.page]


@pytest.mark.parametrize("named", [*WITH_PAGE, *(each for each in WARNINGS if each.page)])
def test_the_page_that_an_error_or_a_warning_names_is_one_page_of_the_documentation(named):
    assert PAGES.count(named.page) == 1


def test_errors_that_say_all_name_no_page():
    assert {errors.AddressError, errors.OutputError, errors.ImageError} <= set(ERRORS) - set(WITH_PAGE)


def test_a_command_names_the_page_once_at_the_end_of_its_line():
    result = CliRunner().invoke(app, ["sites", "transfomers:vit"])
    assert result.exit_code == 2
    assert result.stderr.count("docs: ") == 1
    assert result.stderr.endswith("(docs: use-local-weights)\n")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 shows no notes")
def test_a_traceback_names_the_page():
    with pytest.raises(errors.UnsupportedModelError) as caught:
        captum_vit.adapt(torch.nn.Linear(3, 3).eval())
    assert "write-an-adapter" not in str(caught.value)  # the message is as it was
    assert traceback.format_exception(caught.value)[-1].startswith("The page write-an-adapter of the documentation")


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_is_itself_again_when_it_is_copied_or_comes_from_another_process(error):
    for again in (copy.copy(error("what was wrong")), pickle.loads(pickle.dumps(error("what was wrong")))):
        assert type(again) is error
        assert str(again) == "what was wrong"
        assert getattr(again, "__notes__", []) == getattr(error("what was wrong"), "__notes__", [])


@pytest.mark.parametrize("warning", WARNINGS)
def test_a_warning_ends_with_its_page_wherever_it_is_shown_and_has_its_words_alone_as_argument(warning):
    with pytest.warns(warning) as caught:
        warnings.warn("what is wrong", warning, stacklevel=1)
    shown = warnings.formatwarning(caught[0].message, warning, "file.py", 1, line="")
    assert shown.strip().endswith(f"what is wrong (docs: {warning.page})" if warning.page else "what is wrong")
    assert pickle.loads(pickle.dumps(caught[0].message)).args == ("what is wrong",)


def test_a_site_that_the_output_never_reads_is_told_with_the_page_that_says_what_to_take():
    with pytest.warns(errors.ZeroAttributionWarning, match=r"this site \(docs: questions\)$"):
        captum_vit.adapt(captum_vit.load("deit_micro")).layer("blocks.5")
