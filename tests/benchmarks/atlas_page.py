"""The page of an atlas of many neurons in a real browser: first paint, filters, cards, scrolling, and its memory.

The records are synthetic, and so are the pictures: a sheet of renders for every 64 neurons, each a file of its own.

    python tests/benchmarks/atlas_page.py [--sites 12] [--units 3072] [--photos 10] [--runs 5] [--folder atlas]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import CDPSession, Page, sync_playwright

sys.path.append(str(Path(__file__).parents[1]))
from synthetic_atlas import synthetic_atlas

from captum_vit.atlas.page.writing import write_page

# Work in the page from the change to the second frame after it, when what changed has been painted.
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
FILTER = f"""async ([name, value]) => {{
    const start = window.began = performance.now();
    const field = document.getElementById("order").elements[name];
    field.value = value;
    document.getElementById("order").dispatchEvent(new Event("input", {{bubbles: true}}));
    await {PAINTED};
    return performance.now() - start;
}}"""
PICTURES = """(async () => {
    await Promise.all([...document.querySelectorAll("#grid canvas")].map(canvas => canvas.ready));
    return performance.now();
})()"""
OPEN = f"""async address => {{
    const start = performance.now();
    performance.clearMarks("card");
    location.hash = "#" + address;
    while (!performance.getEntriesByName("card").length) await new Promise(done => setTimeout(done, 1));
    await Promise.all([...document.querySelectorAll("#card canvas")].map(canvas => canvas.ready));
    await {PAINTED};
    return performance.now() - start;
}}"""
SCROLL = """async screens => {
    const main = document.getElementById("main");
    let [longest, last] = [0, performance.now()];
    for (let frame = 0; frame < 10 * screens; frame += 1) {
        main.scrollTop += main.clientHeight / 10;
        await new Promise(requestAnimationFrame);
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
    }
    return longest;
}"""


KINDS = {"renderer": "page's process", "GPU": "graphics process", "browser": "browser's process"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=12)
    parser.add_argument("--units", type=int, default=3072)
    parser.add_argument("--photos", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the atlas there, and use it again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "index.html").exists():
            start = time.perf_counter()
            write_page(folder, synthetic_atlas(folder, arguments.sites, arguments.units, photos=arguments.photos))
            print(f"written in {time.perf_counter() - start:.1f} s")
        report(folder, arguments.sites * arguments.units, arguments.runs)


def report(folder: Path, neurons: int, runs: int) -> None:
    data = sum(file.stat().st_size for file in (folder / "site").rglob("*.js"))
    print(f"{neurons:,} neurons, {data / neurons:,.0f} bytes of the page's data each")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    measured: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        for _ in range(runs):
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            for name, value in visit(page, folder).items():
                measured.setdefault(name, []).append(value)
            version = browser.version
            browser.close()
    print(f"Chromium {version}, median and largest of {runs}:")
    for name, values in measured.items():
        print(f"{name:42} {median(values):8.0f} {max(values):8.0f}")


def visit(page: Page, folder: Path) -> dict[str, float]:
    """Milliseconds that each thing takes on a page just opened, and megabytes that it is left with."""
    found: dict[str, float] = {}
    devtools = page.context.browser.new_browser_cdp_session()
    page.goto("about:blank")
    empty = resident(devtools)
    page.goto((folder / "index.html").as_uri())
    page.wait_for_function("performance.getEntriesByName('shown').length")
    page.evaluate(PAINTED)
    found["first paint, ms"] = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    found["wall there, without pictures, ms"] = page.evaluate("performance.getEntriesByName('shown')[0].startTime")
    found["wall's pictures there, ms"] = page.evaluate(PICTURES)
    for name, value in (("show", "above"), ("sort", "ratio"), ("word", "gra"), ("word", ""), ("sort", "word")):
        found[f"{name} {value!r}, ms"] = page.evaluate(FILTER, [name, value])
        found[f"{name} {value!r}, pictures there after, ms"] = page.evaluate(PICTURES) - page.evaluate("window.began")
    last = page.evaluate("document.querySelectorAll('#sites a').length") - 2
    for address in ("blocks.0:42", f"blocks.{last}:7", f"blocks.{last}:8"):
        found[f"card {address}, ms"] = page.evaluate(OPEN, address)
    page.evaluate("location.hash = ''")
    page.wait_for_timeout(300)
    found["longest frame of 60 screens scrolled, ms"] = page.evaluate(SCROLL, 60)  # of a sorted wall
    page.wait_for_timeout(1000)
    for kind, megabytes in resident(devtools).items():
        found[f"{KINDS[kind]}, MB"] = megabytes
        found[f"{KINDS[kind]} with an empty page, MB"] = empty[kind]
    found["heap of scripts, MB"] = page.evaluate("performance.memory.usedJSHeapSize") / 2**20
    return found


def resident(devtools: CDPSession) -> dict[str, float]:
    """Megabytes of memory of the browser's largest process of each kind, in Linux' proportional count."""
    found = dict.fromkeys(KINDS, 0.0)
    for process in devtools.send("SystemInfo.getProcessInfo")["processInfo"]:
        if (kind := process["type"]) in KINDS:
            lines = Path(f"/proc/{process['id']}/smaps_rollup").read_text().splitlines()
            megabytes = next(int(line.split()[1]) for line in lines if "Pss:" in line) / 1024
            found[kind] = max(found[kind], megabytes)
    return found


if __name__ == "__main__":
    main()
