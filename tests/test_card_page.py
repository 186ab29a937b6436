"""The page of cards, in a real browser: it opens from a file, filters, can be used by anyone, and asks no network."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import Visit, contrast, focused, running_browser
from photos import SIX_PHOTOS
from playwright.sync_api import Browser, Page, expect

import captum_vit
from captum_vit.cards.card import Card, neuron_cards
from captum_vit.cards.page import write_page
from captum_vit.errors import CardError

ADDRESSES = ("blocks.3:42", "blocks.3:182", "blocks.4:42", "blocks.4:307", "blocks.4:308")


@pytest.fixture(scope="module")
def cards() -> tuple[Card, ...]:
    with captum_vit.adapt(captum_vit.load("deit_micro")) as vit:
        return neuron_cards(vit, ADDRESSES, SIX_PHOTOS, steps=2, model="deit_micro", progress=False)


@pytest.fixture(scope="module")
def file(cards, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "cards.html"
    write_page(cards, path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from running_browser()


@pytest.fixture
def visit(browser, file) -> Iterator[Visit]:
    opened = Visit(browser, file)
    yield opened
    opened.context.close()


def shown(page: Page) -> list[str]:
    """Addresses of the cards that can be seen."""
    headings = page.get_by_role("article").get_by_role("heading", level=2)
    return [heading.inner_text() for heading in headings.all() if heading.is_visible()]


def test_it_opens_from_its_file_with_every_card_and_neither_complains_nor_asks_the_network(visit, file):
    assert shown(visit.page) == list(ADDRESSES)
    expect(visit.page).to_have_title("Neurons of deit_micro")
    assert visit.said == []
    assert [url for url in visit.asked if not url.startswith("data:")] == [file.as_uri()]


def test_every_image_is_there_decodes_and_has_words_for_those_who_cannot_see_it(visit, cards):
    images = visit.page.locator("img")
    assert images.count() == sum(1 + 3 * len(card.photos) for card in cards)
    for image in images.all():
        image.evaluate("image => image.decode()")
        assert image.evaluate("image => image.naturalWidth") > 0
        assert image.get_attribute("alt")
        assert image.get_attribute("src").startswith("data:image/")


def test_a_card_tells_its_numbers_to_a_screen_reader(visit, cards):
    card = cards[3]
    article = visit.page.get_by_role("article", name=card.address)
    photo = card.photos[0]
    activation = f"{photo.activation:.3g}".replace("-", "−")
    row, column = photo.peak
    for name in (
        f"Image optimized to excite {card.address}, activation",
        f"Photo {photo.path.name}, activation {activation}",
        f"Patch map over {photo.path.name}, from",
        f"the largest at row {row + 1}, column {column + 1}",
        f"Crop of {photo.path.name} around the peak at row {row + 1}, column {column + 1}",
        "Histogram of the activation on 6 images",
        "Colours of the patch maps",
    ):
        assert article.get_by_role("img", name=name).first.is_visible(), name
    photos = article.get_by_role("list", name=f"Most activating images of {card.address}")
    assert photos.get_by_role("listitem").count() == len(card.photos)


def test_the_small_print_repeats_the_card(visit):
    article = visit.page.get_by_role("article", name="blocks.4:307")
    for fact in ("deit_micro", "2 steps of recipe steady, seed 0", "best 4 of 6 images", "mean over 8×8 patches"):
        expect(article).to_contain_text(fact)


def test_the_keyboard_alone_filters_by_site_and_address_and_shows_all_again(visit):
    page = visit.page
    count = page.get_by_role("status")
    expect(count).to_have_text("5 of 5 cards")
    expect(count).to_have_attribute("aria-live", "polite")

    page.keyboard.press("Tab")
    expect(focused(page)).to_have_text("Skip to the cards")
    page.keyboard.press("Tab")
    expect(page.get_by_role("combobox", name="Site")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(count).to_have_text("2 of 5 cards")
    page.keyboard.press("ArrowDown")
    expect(count).to_have_text("3 of 5 cards")
    assert shown(page) == ["blocks.4:42", "blocks.4:307", "blocks.4:308"]

    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox", name="Address")).to_be_focused()
    page.keyboard.type(":30")
    page.keyboard.press("Enter")
    expect(count).to_have_text("2 of 5 cards")
    assert shown(page) == ["blocks.4:307", "blocks.4:308"]
    page.keyboard.type("9")
    expect(count).to_have_text("0 of 5 cards")
    assert shown(page) == []
    expect(page.get_by_text("No card fits")).to_be_visible()

    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Show all")).to_be_focused()
    page.keyboard.press("Enter")
    expect(count).to_have_text("5 of 5 cards")
    assert shown(page) == list(ADDRESSES)
    expect(page.get_by_text("No card fits")).to_be_hidden()
    assert visit.said == []


def test_the_mouse_filters_by_site_too(visit):
    visit.page.get_by_label("Site").select_option("blocks.3")
    expect(visit.page.get_by_role("status")).to_have_text("2 of 5 cards")
    assert shown(visit.page) == ["blocks.3:42", "blocks.3:182"]
    options = visit.page.get_by_label("Site").locator("option").all_inner_texts()
    assert options == ["All sites (5)", "blocks.3 (2)", "blocks.4 (3)"]


def test_what_has_the_focus_can_be_seen(visit):
    page = visit.page
    for _ in range(5):
        page.keyboard.press("Tab")
        width = focused(page).evaluate("element => parseFloat(getComputedStyle(element).outlineWidth)")
        style = focused(page).evaluate("element => getComputedStyle(element).outlineStyle")
        assert width >= 2
        assert style == "solid"


def test_a_link_leads_to_each_card(visit):
    visit.page.get_by_role("link", name="blocks.4:308").click()
    assert visit.page.url.endswith("#blocks.4:308")
    expect(visit.page.get_by_role("article", name="blocks.4:308")).to_be_in_viewport()


def test_the_policy_forbids_the_network_and_foreign_scripts(visit):
    with socket.create_server(("127.0.0.1", 0)) as server:
        violated = visit.page.evaluate(
            """url => new Promise(resolve => {
                const found = [];
                document.addEventListener("securitypolicyviolation", event => {
                    found.push(event.effectiveDirective);
                    if (found.length === 3) resolve(found.sort());
                });
                document.body.append(Object.assign(new Image(), {src: url}));
                document.body.append(Object.assign(document.createElement("script"), {textContent: "stolen = 1"}));
                fetch(url).catch(() => {});
            })""",
            f"http://127.0.0.1:{server.getsockname()[1]}/",
        )
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody called
            server.accept()
    assert violated == ["connect-src", "img-src", "script-src-elem"]
    assert visit.page.evaluate("typeof stolen") == "undefined"


def test_without_scripts_all_cards_are_there_and_no_filter_pretends_to_work(browser, file):
    visit = Visit(browser, file, java_script_enabled=False)
    assert shown(visit.page) == list(ADDRESSES)
    expect(visit.page.locator("form")).to_be_hidden()
    visit.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser, file, scheme):
    visit = Visit(browser, file, color_scheme=scheme)
    for selector in (
        "h1",
        "output",
        "h2 a",
        ".model",
        "figcaption .optimum",
        ".rank",
        ".name",
        ".small-print",
        ".tick",
    ):
        assert contrast(visit.page, selector) >= 4.5, selector
    body = visit.page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert (int(re.findall(r"\d+", body)[0]) > 127) == (scheme == "light")
    visit.context.close()


@pytest.mark.parametrize(("motion", "scrolling"), [("reduce", "auto"), ("no-preference", "smooth")])
def test_nothing_moves_for_those_who_do_not_want_it(browser, file, motion, scrolling):
    visit = Visit(browser, file, reduced_motion=motion)
    assert visit.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == scrolling
    visit.context.close()


@pytest.mark.parametrize("width", [320, 700, 1600])
def test_it_fits_narrow_and_wide_windows(browser, file, width):
    visit = Visit(browser, file, viewport={"width": width, "height": 800})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.context.close()


def test_names_of_files_and_problems_are_text_and_never_markup(browser, cards, tmp_path):
    name = "<img src=x onerror=alert(1)>&amp;\udce9.jpg"
    photo = replace(cards[0].photos[0], path=Path(name))
    problem = "dead: <script>alert(2)</script>"
    card = replace(
        cards[0],
        photos=(photo,),
        optimized=replace(cards[0].optimized, problem=problem),
        skipped=("<b>broken</b>.jpg is empty",),
    )
    write_page([card], tmp_path / "cards.html", title="</title><i>odd")
    visit = Visit(browser, tmp_path / "cards.html")
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("</title><i>odd")
    expect(visit.page.locator(".name")).to_have_text("<img src=x onerror=alert(1)>&amp;\\xe9.jpg")
    expect(visit.page.locator(".problem")).to_contain_text(problem)
    expect(visit.page.locator("summary")).to_have_text("1 of the files could not be read")
    visit.page.locator("summary").click()
    expect(visit.page.get_by_text("<b>broken</b>.jpg is empty")).to_be_visible()
    assert visit.said == []
    visit.context.close()


def test_a_neuron_without_a_finite_activation_has_a_card(browser, cards, tmp_path):
    overflown = replace(cards[0].optimized, activation=float("nan"))
    write_page([replace(cards[0], photos=(), optimized=overflown)], tmp_path / "cards.html")
    visit = Visit(browser, tmp_path / "cards.html")
    expect(visit.page.get_by_role("article")).to_contain_text("No image has a finite activation")
    assert visit.said == []
    visit.context.close()


def test_a_card_of_four_photos_takes_no_more_than_60_kilobytes(file):
    assert file.stat().st_size <= 60_000 * len(ADDRESSES)


def test_the_page_is_written_whole_or_not_at_all(cards, tmp_path):
    def interrupted():
        yield cards[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_page(interrupted(), tmp_path / "cards.html")
    with pytest.raises(CardError, match="no card to write"):
        write_page([], tmp_path / "cards.html")
    assert not list(tmp_path.iterdir())
