"""The adapted models that every table of methods runs over."""

from __future__ import annotations

import pytest
from by_hand import PLACES, Case


@pytest.fixture(scope="session", params=PLACES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)
