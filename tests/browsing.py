"""Pages in a real browser: how tests open one, and what they ask of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

# Slow machines are no failure: everything is waited for, and nothing here is about time.
PATIENCE = 600_000  # milliseconds
expect.set_options(timeout=PATIENCE)


def running_browser() -> Iterator[Browser]:
    """The browser of this machine, for a fixture to yield from."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        reason = "no Chromium or Chrome on this machine; on Debian, apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=PATIENCE)
        yield running
        running.close()


class Visit:
    """A page opened from its file, with all that the browser said about it and asked for."""

    def __init__(self, browser: Browser, file: Path, **settings) -> None:
        self.context = browser.new_context(**settings)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())


def focused(page: Page) -> Locator:
    return page.locator(":focus")


def contrast(page: Page, selector: str) -> float:
    """Contrast of an element's text on its background, as WCAG 2 defines it."""
    return page.locator(selector).first.evaluate(
        """element => {
            const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
            const luminance = colour => numbers(colour).slice(0, 3).map(value => value / 255)
                .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
                .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
            let below = element;
            while (numbers(getComputedStyle(below).backgroundColor)[3] === 0) below = below.parentElement;
            const style = getComputedStyle(element);
            const text = element instanceof SVGElement ? style.fill : style.color;
            const [dark, light] = [text, getComputedStyle(below).backgroundColor].map(luminance).sort((a, b) => a - b);
            return (light + 0.05) / (dark + 0.05);
        }"""
    )
