"""Words to name neurons with: the bundled list, or a file of one's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from captum_vit.errors import NamingError
from captum_vit.storage.files import shown

BUNDLED = Path(__file__).parent / "words.txt"

# A word's direction is the mean over these, as in Radford et al. (2021, arXiv 2103.00020, section 3.1.4); without
# articles, which not every word takes. Close-ups, because crops are.
TEMPLATES = ("{}", "a photo of {}", "a close-up photo of {}")

# Fewer have no mean to be set off against.
FEWEST = 10


def read_words(path: str | Path | None = None) -> tuple[str, ...]:
    """Words of a text file in UTF-8: a word or a phrase a line; what begins with ``#`` and empty lines are none.

    Parameters
    ----------
    path
        The file; the bundled list of things that can be seen when not given.

    Raises
    ------
    NamingError
        The file cannot be read, has fewer than ten words, or one twice.
    """
    path = BUNDLED if path is None else Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise NamingError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise NamingError(f"{path} is not a text file in UTF-8; give one word or phrase a line") from error
    words = tuple(shown(line.strip()) for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return check_words(words, str(path))


def check_words(words: tuple[str, ...], what: str = "the list of words") -> tuple[str, ...]:
    """Words as they are, if there are enough and none is there twice.

    Raises
    ------
    NamingError
        They are too few, or one is there twice.
    """
    if len(words) < FEWEST:
        raise NamingError(f"{what} has {len(words)} words, and a word is set off against others; give {FEWEST} or more")
    if twice := [word for word, times in Counter(words).items() if times > 1]:
        raise NamingError(f'{what} has "{twice[0]}" twice; leave one out')
    return words
