"""The Hugging Face hub: where it cannot be reached, that is known in a moment and not after minutes of retries."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PATIENCE = 5  # seconds to wait for a connection


@contextmanager
def hub() -> Iterator[None]:
    """Context in which the hub's client takes what it has kept, and nothing else, where the hub cannot be reached.

    By itself the client tries each file six times, which is half a minute a file.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _is_reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _is_reachable(address: str) -> bool:
    """Whether something answers there, or at the proxy on the way."""
    place = urlsplit(address)
    if (proxy := getproxies().get(place.scheme)) and not proxy_bypass(place.hostname or ""):
        place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        socket.create_connection((place.hostname or "", port), timeout=_PATIENCE).close()
    except OSError:
        return False
    return True
