"""The page of an atlas, in a real browser: it opens from a file, and loads what is looked at and nothing else."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import matplotlib
import numpy as np
import pytest
from browsing import Visit, contrast, focused, running_browser
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from synthetic_atlas import synthetic_atlas

from captum_vit.atlas.page.records import Card, Neurons, PageModel, Photo, Sheet, Site, State
from captum_vit.atlas.page.writing import write_page
from captum_vit.errors import AtlasPageError
from captum_vit.plots import COLORMAP

HOSTILE = "</script><img src=x onerror=alert(1)>&amp;\u2028\udce9"
AS_SHOWN = "</script><img src=x onerror=alert(1)>&amp;\\u2028\\xe9"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from running_browser()


@pytest.fixture(scope="module")
def model(atlases) -> PageModel:
    return synthetic_atlas(atlases / "first", sites=3, units=200)


@pytest.fixture(scope="module")
def atlases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("atlases")


@pytest.fixture(scope="module")
def index(atlases: Path, model: PageModel) -> Path:
    """The page of an atlas, and beside it another that has fewer units and neither words nor classes."""
    write_page(atlases / "first", model)
    other = synthetic_atlas(atlases / "the other", sites=3, units=60, named=False, seed=1)
    write_page(atlases / "the other", replace(other, title="Other ViT"))
    return atlases / "first" / "index.html"


@pytest.fixture
def visit(browser, index) -> Iterator[Visit]:
    opened = Visit(browser, index)
    yield opened
    opened.context.close()


def go(visit: Visit, place: str) -> Page:
    visit.page.evaluate("place => { location.hash = place; }", place)
    return visit.page


def asked_for(visit: Visit, folder: str) -> set[str]:
    """Files of a folder of the atlas that the browser has asked for."""
    return {unquote(url).rpartition(f"/{folder}/")[2] for url in visit.asked if f"/{folder}/" in unquote(url)}


def test_the_wall_shows_what_is_in_view_and_loads_nothing_else(visit, index, model):
    page = visit.page
    expect(page).to_have_title("Synthetic ViT")
    expect(page.get_by_role("heading", level=2)).to_have_text("All sites")
    expect(page.get_by_role("status")).to_have_text("600 neurons")
    wall = page.get_by_role("grid", name="All sites")
    expect(wall.get_by_role("link", name="blocks.0:0,")).to_be_visible()
    assert wall.get_by_role("link").count() < 120
    assert int(wall.get_attribute("aria-rowcount")) * int(wall.get_attribute("aria-colcount")) >= 600
    page.wait_for_load_state("networkidle")
    assert asked_for(visit, "renders")
    assert not asked_for(visit, "renders/blocks.1")
    assert not asked_for(visit, "cards")
    assert not asked_for(visit, "photos")
    assert {url for url in visit.asked if not url.startswith(index.parent.as_uri())} <= {"data:,"}
    assert visit.said == []


def test_scrolling_brings_the_rest(visit):
    page = visit.page
    expect(page.get_by_role("link", name="blocks.0:0,")).to_be_visible()
    page.locator("#main").evaluate("main => { main.scrollTop = main.scrollHeight; }")
    expect(page.get_by_role("link", name="blocks.2:199")).to_be_visible()
    expect(page.get_by_role("link", name="blocks.0:0,")).to_have_count(0)
    expect(page.get_by_role("link", name="blocks.2:199").locator("canvas")).to_have_count(1)
    page.wait_for_load_state("networkidle")
    assert not asked_for(visit, "renders/blocks.1")  # passed at once, never in view


def test_every_tile_shows_its_own_part_of_its_sheet(browser, tmp_path):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    image = Image.new("RGB", (20, 20))
    for tile, colour in enumerate(colours):
        image.paste(colour, (10 * (tile % 2), 10 * (tile // 2), 10 * (tile % 2) + 10, 10 * (tile // 2) + 10))
    image.save(tmp_path / "sheet #1 50%.png")
    write_page(tmp_path, few(4, sheets=[Sheet("sheet #1 50%.png", 2, 2)], tile=np.arange(4)))
    visit = Visit(browser, tmp_path / "index.html", device_scale_factor=1)
    for tile, colour in enumerate(colours):
        canvas = visit.page.get_by_role("link", name=f"odd:{tile}").locator("canvas")
        canvas.evaluate("canvas => canvas.ready")
        picture = Image.open(BytesIO(canvas.screenshot()))
        centre = picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2))
        assert np.abs(np.subtract(centre, colour)).max() <= 2
    visit.context.close()


def few(
    count: int, sheets: list[Sheet], cards: list[Card] | None = None, title: str = "Few", **columns: object
) -> PageModel:
    """A model with one site of a few neurons."""
    ones = np.ones(count)
    neurons = {
        "site": np.zeros(count, dtype=int),
        "unit": np.arange(count),
        "live": ones > 0,
        "natural_maximum": ones,
        "activation": ones,
        "ratio": ones,
        "worst_ratio": ones,
        "state": np.zeros(count, dtype=int),
        "sheet": np.zeros(count, dtype=int),
        "tile": np.zeros(count, dtype=int),
    }
    return PageModel(
        title=title,
        sites=[Site("odd", 100)],
        neurons=Neurons(**neurons | columns),
        sheets=sheets,
        cards=cards if cards is not None else [Card()] * count,
        images=3,
    )


def test_a_filter_leaves_the_neurons_that_fit(visit, model):
    fits = {
        "Live": model.neurons.live,
        "Above photos": model.neurons.ratio > 1,
        "Silenced or problem": np.isin(model.neurons.state, [State.SILENCED, State.PROBLEM]),
    }
    for choice, fitting in fits.items():
        visit.page.get_by_role("form", name="Order and filters").get_by_text(choice).click()
        expect(visit.page.get_by_role("status")).to_have_text(f"{fitting.sum()} of 600 neurons")


def test_sorting_puts_the_best_first_in_the_whole_model_or_a_site(visit, model):
    columns = {"ratio": "ratio", "worst": "worst_ratio", "agreement": "agreement", "natural": "natural_maximum"}
    for sort, column in columns.items():
        values = np.nan_to_num(getattr(model.neurons, column).astype(np.float32), nan=-np.inf)
        visit.page.get_by_label("Sort").select_option(sort)
        best = int(values[200:400].argmax())
        visit.page.get_by_role("link", name="blocks.1, 200 neurons").click()
        expect(first_tile(visit.page)).to_have_attribute("href", f"#blocks.1:{best}&sort={sort}")
        best = int(values.argmax())
        visit.page.get_by_role("link", name="All sites, 600 neurons").click()
        expect(first_tile(visit.page)).to_have_attribute("href", f"#blocks.{best // 200}:{best % 200}&sort={sort}")


def first_tile(page: Page):
    return page.get_by_role("gridcell").first.get_by_role("link")


def test_words_and_classes_filter_where_there_are_any(visit, model, index):
    page = visit.page
    page.get_by_role("combobox", name="Word", exact=True).fill("STRIP")
    words = np.array([word == "stripes" for word in model.neurons.word])
    expect(page.get_by_role("status")).to_have_text(f"{words.sum()} of 600 neurons")
    page.get_by_role("combobox", name="Class", exact=True).fill("daisy")
    both = words & np.array([label == "daisy" for label in model.neurons.top_class])
    expect(page.get_by_role("status")).to_have_text(f"{both.sum()} of 600 neurons")
    page.reload()
    expect(page.get_by_role("status")).to_have_text(f"{both.sum()} of 600 neurons")
    page.get_by_role("combobox", name="Word", exact=True).fill("nothing is called so")
    expect(page.get_by_text("No neuron fits")).to_be_visible()
    page.goto((index.parents[1] / "the other" / "index.html").as_uri())
    expect(page.get_by_role("status")).to_have_text("180 neurons")
    expect(page.get_by_role("combobox", name="Word", exact=True)).to_have_count(0)


def test_a_link_opens_a_neurons_card_with_all_that_is_known(browser, index, model):
    visit = Visit(browser, index)
    page = visit.page
    page.goto(f"{index.as_uri()}#blocks.1:42")
    card = page.get_by_role("article", name="blocks.1:42")
    expect(card).to_be_visible()
    expect(page).to_have_title("blocks.1:42 · Synthetic ViT")
    neuron = 242
    activation = f"{model.neurons.activation[neuron]:.3g}"
    expect(
        card.get_by_role("img", name=f"Image optimized to excite blocks.1:42, activation {activation}")
    ).to_be_visible()
    expect(card.locator(".scores")).to_contain_text(f"{model.neurons.ratio[neuron]:.2f}×")
    expect(card.get_by_role("img", name="Histogram of the activation on 50,000 images")).to_be_visible()
    photos = card.get_by_role("list", name="Most activating images of blocks.1:42").get_by_role("listitem")
    expect(photos).to_have_count(4)
    expect(photos.first.get_by_role("img", name="Photo photo 0.jpg, activation")).to_be_visible()
    expect(photos.first.get_by_role("img", name="Patch map over photo 0.jpg, the largest at row")).to_be_visible()
    expect(card.get_by_role("img", name="Colours of the patch maps")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert asked_for(visit, "cards") == {"7.js"}
    assert visit.said == []
    visit.context.close()


def test_patch_maps_are_drawn_in_their_colours_where_the_cells_look(browser, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    patch_map = np.zeros((4, 4), dtype=np.uint8)
    patch_map[1, 2], patch_map[3, 0] = 255, 128
    photo = Photo("a.jpg", 1.0, Sheet("black.png"), patch_map=patch_map)
    write_page(tmp_path, few(1, sheets=[Sheet("black.png")], cards=[Card(photos=[photo], scale=(0.0, 2.0))]))
    visit = Visit(browser, tmp_path / "index.html")
    page = go(visit, "odd:0")
    expect(page.get_by_role("img", name="Patch map over a.jpg, the largest at row 2, column 3")).to_be_visible()
    pixel = "(canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data]"
    for (row, column), value in {(1, 2): 255, (3, 0): 128, (0, 0): 0}.items():
        # Of 112 pixels a cell has 28. Beside its centre the neighbours have a share of a thirtieth in it.
        seen = page.locator("canvas.heat").evaluate(pixel, [28 * column + 14, 28 * row + 14])
        expected = [round(255 * part) for part in matplotlib.colormaps[COLORMAP](value)[:3]]
        assert np.abs(np.subtract(seen[:3], expected)).max() <= 25
    visit.context.close()


def test_the_keyboard_alone_reaches_every_neuron_and_comes_back(visit):
    page = visit.page
    expect(page.get_by_role("link", name="blocks.0:0,")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Address of a neuron or a site")).to_be_focused()
    page.keyboard.type("blocks.1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text("blocks.1")
    page.get_by_role("link", name="blocks.1:0,").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.get_by_role("link", name="blocks.1:1,")).to_be_focused()
    page.keyboard.press("End")
    expect(page.get_by_role("link", name="blocks.1:199")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="blocks.1:198")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="blocks.1:199")).to_be_focused()
    expect(page.get_by_role("button", name="Neuron after")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="blocks.1:199")).to_be_focused()
    page.go_back()
    expect(page.get_by_role("article", name="blocks.1:199")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("article", name="blocks.1:198")).to_be_visible()
    assert visit.said == []


def test_what_has_the_focus_can_be_seen(visit):
    expect(visit.page.get_by_role("link", name="blocks.0:0,")).to_be_visible()
    for _ in range(6):
        visit.page.keyboard.press("Tab")
        assert focused(visit.page).evaluate("element => getComputedStyle(element).outlineStyle") == "solid"


def test_a_place_that_is_not_there_is_named(visit):
    for place in ("blocks.1:200", "blocks.9", "blocks.9:1", "nothing", "%zz"):
        page = go(visit, place)
        expect(page.get_by_role("alert")).to_contain_text(f'"{place}" in this atlas')
        expect(page.get_by_role("grid")).to_be_visible()


def test_another_atlas_stands_beside_neuron_against_neuron(visit):
    page = go(visit, "blocks.1&compare=../the other&sort=gain")
    expect(page.get_by_text("Left Synthetic ViT, right Other ViT.")).to_be_visible()
    expect(first_tile(page).locator("canvas")).to_have_count(2)
    go(visit, "blocks.1:42&compare=../the other")
    expect(page.get_by_role("region", name="Synthetic ViT").get_by_role("list", name="Most activating")).to_be_visible()
    other = page.get_by_role("region", name="Other ViT")
    expect(other.get_by_role("list", name="Most activating images of blocks.1:42")).to_be_visible()
    other.get_by_label("Address in Other ViT").fill("blocks.2:7")
    other.get_by_role("button", name="Show").click()
    expect(other.get_by_role("list", name="Most activating images of blocks.2:7")).to_be_visible()
    assert page.url.endswith("#blocks.1:42&compare=../the%20other&with=blocks.2%3A7")
    go(visit, "blocks.1:142&compare=../the other")
    expect(other.get_by_text("no neuron blocks.1:142 in Other ViT")).to_be_visible()
    page.get_by_role("link", name="Stop comparing").click()
    expect(page.get_by_role("region")).to_have_count(0)
    expect(page.get_by_role("article", name="blocks.1:142")).to_be_visible()
    assert visit.said == []


def test_an_atlas_to_compare_with_is_a_folder_nearby_or_nothing(visit, index):
    for elsewhere in ("//example.invalid/a", "https://example.invalid/a", "../nowhere", "javascript:1"):
        page = go(visit, f"blocks.1&compare={elsewhere}")
        expect(page.get_by_role("alert")).to_contain_text(f"The atlas in {elsewhere} cannot be shown")
        expect(page.get_by_role("grid")).to_be_visible()
    assert all(url.startswith((index.parents[1].as_uri(), "data:")) for url in visit.asked)


def test_a_static_server_does_as_well_and_nothing_else_is_asked(browser, atlases, index):
    handler = functools.partial(SimpleHTTPRequestHandler, directory=atlases)
    handler.func.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        visit = Visit(browser, index)
        address = f"http://127.0.0.1:{server.server_address[1]}"
        visit.asked.clear()
        visit.page.goto(f"{address}/first/#blocks.2:5&compare=../the%20other")
        expect(visit.page.get_by_role("region", name="Other ViT").get_by_role("listitem").first).to_be_visible()
        assert all(url.startswith((address, "data:")) for url in visit.asked)
        assert visit.said == []
        visit.context.close()
        server.shutdown()


def test_the_policy_forbids_the_network_and_scripts_in_the_page(visit):
    violated = visit.page.evaluate(
        """() => new Promise(resolve => {
            const found = [];
            document.addEventListener("securitypolicyviolation", event => {
                found.push(event.effectiveDirective);
                if (found.length === 4) resolve(found.sort());
            });
            document.body.append(Object.assign(new Image(), {src: "http://127.0.0.1:9/"}));
            document.body.append(Object.assign(document.createElement("script"), {textContent: "stolen = 1"}));
            document.body.append(Object.assign(document.createElement("script"), {src: "http://127.0.0.1:9/a.js"}));
            fetch("http://127.0.0.1:9/").catch(() => {});
        })"""
    )
    assert violated == ["connect-src", "img-src", "script-src-elem", "script-src-elem"]
    assert visit.page.evaluate("typeof stolen") == "undefined"


def test_names_labels_and_words_are_text_and_never_markup(browser, tmp_path):
    card = Card(
        photos=[Photo(HOSTILE, 1.0, Sheet(HOSTILE.replace("/", "")), label=HOSTILE)],
        problem=HOSTILE,
        words=[(HOSTILE, 0.5)],
        classes=[(HOSTILE, 3)],
        settings={HOSTILE: HOSTILE},
    )
    hostile = few(1, sheets=[Sheet(HOSTILE)], cards=[card], title=HOSTILE, word=[HOSTILE], top_class=[HOSTILE])
    write_page(tmp_path, replace(hostile, sites=[Site(HOSTILE, 1)], settings={HOSTILE: HOSTILE}))
    assert "</script><img" not in "".join(file.read_text() for file in tmp_path.rglob("*.js"))
    visit = Visit(browser, tmp_path / "index.html")
    page = visit.page
    expect(page.get_by_role("heading", level=1)).to_have_text(AS_SHOWN)
    page.get_by_role("gridcell").get_by_role("link").click()
    expect(page.get_by_role("heading", name=f"{AS_SHOWN}:0")).to_be_focused()
    for shown in (".problem", ".names", ".photos .name", "details dd"):
        expect(page.locator(shown).last).to_contain_text(AS_SHOWN)
    page.get_by_text("About").click()
    expect(page.locator("#settings")).to_contain_text(AS_SHOWN)
    assert page.locator("img").count() == 0
    assert [said for said in visit.said if "ERR_FILE_NOT_FOUND" not in said] == []  # the pictures have bad names
    visit.context.close()


def test_it_fits_phones_and_desks(visit):
    overflow = "[document.documentElement, document.getElementById('main')].map(e => e.scrollWidth - e.clientWidth)"
    for width in (320, 390, 1440):
        visit.page.set_viewport_size({"width": width, "height": 800})
        for place in ("", "blocks.1:42", "blocks.1:42&compare=../the other"):
            page = go(visit, place)
            expect(page.get_by_role("article" if place else "grid")).to_be_visible()
            expect(page.get_by_role("region", name="Other ViT")).to_have_count(1 if "compare" in place else 0)
            assert page.evaluate(overflow) == [0, 0], (width, place)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser, index, scheme):
    visit = Visit(browser, index, color_scheme=scheme)
    expect(visit.page.get_by_role("gridcell").first).to_be_visible()
    for selector in (
        "h1 a",
        "#count",
        "#sites .number",
        ".key",
        ".tile .number",
        ".choices input:checked + span",
    ):
        assert contrast(visit.page, selector) >= 4.5, selector
    go(visit, "blocks.1:42")
    expect(visit.page.get_by_role("article")).to_be_visible()
    for selector in (".tags .live", ".scores dt", ".value", ".rank", ".photos .name", ".tick", ".scale"):
        assert contrast(visit.page, selector) >= 4.5, selector
    visit.context.close()


def test_a_smaller_atlas_leaves_no_cards_of_a_larger_one(tmp_path):
    write_page(tmp_path, few(100, sheets=[Sheet("a.png")]))
    assert {file.name for file in (tmp_path / "site/data/cards").iterdir()} == {"0.js", "1.js", "2.js", "3.js"}
    write_page(tmp_path, few(40, sheets=[Sheet("a.png")]))
    assert {file.name for file in (tmp_path / "site/data/cards").iterdir()} == {"0.js", "1.js"}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"sheet": [0, 1]}, "column 'sheet' goes from 0 to 1"),
        ({"unit": [1, 0]}, "each once"),
        ({"live": [True]}, "different lengths"),
        ({}, "1 cards came of 2 neurons"),
    ],
)
def test_records_that_do_not_fit_together_are_refused(tmp_path, columns, words):
    with pytest.raises(AtlasPageError, match=words):
        write_page(tmp_path, few(2, sheets=[Sheet("a.png")], cards=[Card()], **columns))
