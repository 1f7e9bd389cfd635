"""The page in a real browser: on a phone, on a desk, by keyboard, on paper."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from shiftreg import api
from shiftreg.api.trail.evidence import EvidencePage
from shiftreg.reports import ReportPage, render_evidence, render_page
from tests.worlds import Worlds

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = '<script>document.title="run"</script>"><img src=x onerror=\'document.title="run"\'>'

if not (BROWSER and DRIVER):
    reason = "chromium and chromedriver are not installed; see: make browser"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)

# Contrast as WCAG 2 defines it, of every text that is shown, against what lies behind it.
CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function rgba(colour) {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
}
function luminance([r, g, b]) {
  const [x, y, z] = [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}
function over(top, below) {
  return [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
}
function background(element) {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
  return layers.map(rgba).reduce((below, top) => over(top, below), [255, 255, 255, 1]);
}
document.querySelectorAll("details").forEach(details => details.open = true);
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
  if (!text || !element.checkVisibility() || element.closest("title, style")) continue;
  const style = getComputedStyle(element), behind = background(element);
  const ink = over(rgba(element.closest("svg") ? style.fill : style.color), behind);
  const [dark, light] = [luminance(ink), luminance(behind)].sort((a, b) => a - b);
  const size = parseFloat(style.fontSize), bold = parseInt(style.fontWeight) >= 700;
  found.push({text: text.slice(0, 40), ratio: (light + 0.05) / (dark + 0.05),
              needed: size >= 24 || (bold && size >= 18.66) ? 3 : 4.5});
}
return found;
"""
BEYOND_THE_EDGE = """
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll("body *")]
  .filter(e => e.checkVisibility() && !e.closest(".scroll") && !e.matches(".skip"))
  .filter(e => e.getBoundingClientRect().right > width + 0.5)
  .map(e => e.outerHTML.slice(0, 80));
"""

OVERFLOW = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"


class Browser:
    """Chromium on one page at a time, with what it reported."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self.driver, self._folder = driver, folder

    def open(
        self, page: ReportPage | EvidencePage, width: int = 1280, scheme: str = "light"
    ) -> Path:
        path = self._folder / "report.html"
        html = render_page(page) if isinstance(page, ReportPage) else render_evidence(page)
        path.write_text(html, encoding="utf-8")
        self.show(path, width, scheme)
        return path

    def show(self, path: Path, width: int = 1280, scheme: str = "light") -> None:
        self.command("Emulation.setEmulatedMedia", media="", features=[
            {"name": "prefers-color-scheme", "value": scheme}
        ])  # fmt: skip
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(path.as_uri())

    def command(self, name: str, **parameters: Any) -> dict[str, Any]:
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def requests(self) -> set[str]:
        messages = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return {parameters["request"]["url"] for parameters in sent}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(executable_path=str(DRIVER)))
    try:
        yield Browser(driver, tmp_path_factory.mktemp("pages"))
    finally:
        driver.quit()


@pytest.fixture(params=["a usual name", "a hostile name"])
def any_page(
    request: pytest.FixtureRequest, page: ReportPage, page_about: Callable[[str], ReportPage]
) -> ReportPage:
    return page if request.param == "a usual name" else page_about(HOSTILE)


def test_it_loads_without_complaint_and_asks_nothing_of_the_network(
    browser: Browser, any_page: ReportPage
) -> None:
    path = browser.open(any_page)
    assert browser.driver.get_log("browser") == []
    requests = browser.requests()
    assert path.as_uri() in requests
    assert all(url.startswith("data:") for url in requests - {path.as_uri()})


def test_a_page_of_a_real_composition_is_whole(
    browser: Browser, home: Path, worlds: Worlds, tmp_path: Path
) -> None:
    workspace = worlds.open(home, "Caravaggio")
    result = api.write_report(workspace, tmp_path / "real.html", images=1)
    browser.show(result.path, 390)
    assert browser.driver.get_log("browser") == []
    requests = browser.requests() - {result.path.as_uri()}
    assert all(url.startswith("data:") for url in requests)
    widths = browser.run("return [...document.images].map(image => image.naturalWidth)")
    assert widths == [64] * result.images
    assert browser.run(BEYOND_THE_EDGE) == []
    assert browser.run(OVERFLOW) == 0
    assert [text for text in browser.run(CONTRASTS) if text["ratio"] < text["needed"]] == []
    assert "0 [0, 0.975]" in " ".join(browser.run("return document.body.innerText").split())


def test_a_request_would_have_been_refused_and_reported(browser: Browser, page: ReportPage) -> None:
    browser.open(page)
    browser.run('document.body.append(Object.assign(new Image(), {src: "http://127.0.0.1:9/x"}))')
    (complaint,) = browser.driver.get_log("browser")
    assert "Content Security Policy" in complaint["message"]


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_lies_beyond_the_edge(browser: Browser, any_page: ReportPage, width: int) -> None:
    browser.open(any_page, width)
    assert browser.run(BEYOND_THE_EDGE) == []
    assert browser.run(OVERFLOW) == 0


def test_every_image_is_shown_and_has_words(browser: Browser, page: ReportPage) -> None:
    browser.open(page, 390)
    images = browser.run(
        "return [...document.images].map(i => [i.naturalWidth, i.alt,"
        " i.getBoundingClientRect().width, getComputedStyle(i).imageRendering])"
    )
    assert len(images) == 16
    for natural, words, width, rendering in images:
        assert natural == 64
        assert words
        assert width > 64  # enlarged, without smoothing
        assert rendering == "pixelated"


def test_headings_descend_and_tables_are_named(browser: Browser, page: ReportPage) -> None:
    browser.open(page)
    levels = browser.run(
        'return [...document.querySelectorAll("h1,h2,h3,h4,h5,h6")].map(h => +h.tagName[1])'
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    captions = browser.run('return [...document.querySelectorAll("table")].map(t => t.caption)')
    assert captions
    assert all(captions)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(
    browser: Browser, page: ReportPage, scheme: str
) -> None:
    browser.open(page, scheme=scheme)
    texts = browser.run(CONTRASTS)
    assert len(texts) > 200
    assert [text for text in texts if text["ratio"] < text["needed"]] == []


def test_the_contrasts_are_measured(browser: Browser, page: ReportPage) -> None:
    browser.open(page)
    browser.run('document.querySelector("h1").style.color = "#999999"')
    faint = [text for text in browser.run(CONTRASTS) if text["ratio"] < text["needed"]]
    assert [(text["text"][:10], round(text["ratio"], 2)) for text in faint] == [
        ("What this ", 2.85)
    ]


def test_the_keyboard_reaches_the_skip_link_and_every_region(
    browser: Browser, page: ReportPage
) -> None:
    browser.open(page, 390)
    browser.run(
        'document.querySelectorAll("details").forEach(details => details.open = true);'
        'window.stops = [...document.querySelectorAll("a, summary, .scroll")];'
    )
    reached = []
    for _ in range(browser.run("return stops.length")):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        reached.append(
            browser.run(
                "const e = document.activeElement, box = e.getBoundingClientRect();"
                "return [stops.indexOf(e), box.left >= 0, getComputedStyle(e).outlineStyle]"
            )
        )
    assert [position for position, _, _ in reached] == list(range(len(reached)))
    assert browser.run("return stops[0].textContent") == "Skip to the content"
    assert all(inside and outline != "none" for _, inside, outline in reached)


def test_what_is_folded_opens_by_keyboard(browser: Browser, page: ReportPage) -> None:
    browser.open(page)
    opened = 'return document.querySelector("details").open'
    assert browser.run(opened) is False
    browser.run('document.querySelector("summary").focus()')
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    assert browser.run(opened) is True


def test_a_wide_table_scrolls_by_keyboard_and_keeps_its_caption(
    browser: Browser, page: ReportPage
) -> None:
    browser.open(page, 390)
    browser.run('document.querySelector("#gates ~ .scroll").focus()')
    ActionChains(browser.driver).send_keys(Keys.END, *[Keys.ARROW_RIGHT] * 5).perform()
    scrolled = (
        'const r = document.querySelector("#gates ~ .scroll");'
        "return [r.scrollLeft, r.querySelector('caption span').getBoundingClientRect().left]"
    )
    for _ in range(50):
        if browser.run(scrolled)[0] > 0:
            break
    left, caption = browser.run(scrolled)
    assert left > 0
    assert caption >= 0


def test_hostile_names_are_text_and_no_script_runs(
    browser: Browser, page_about: Callable[[str], ReportPage]
) -> None:
    browser.open(page_about(HOSTILE))
    assert browser.driver.title.startswith("Composition fedcba987654 of miniature")
    assert browser.run("return document.scripts.length") == 0
    assert browser.run('return document.querySelectorAll("[onerror]").length') == 0
    assert HOSTILE in browser.run("return document.body.innerText")


def test_on_paper_it_has_pages_and_images_and_nothing_is_folded_away(
    browser: Browser, page: ReportPage
) -> None:
    browser.open(page, scheme="dark")
    pdf = base64.b64decode(browser.command("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 1
    assert len(re.findall(rb"/Subtype\s*/Image\b", pdf)) >= 16
    browser.command("Emulation.setEmulatedMedia", media="print")
    shown = 'return [...document.querySelectorAll("details > *")].map(e => e.checkVisibility())'
    assert set(browser.run(shown)) == {True}
    heights = (
        'return [...document.querySelectorAll("pre")].map(e => e.getBoundingClientRect().height)'
    )
    assert min(browser.run(heights)) > 10
    paper = "return getComputedStyle(document.body).backgroundColor"
    assert browser.run(paper) == "rgb(255, 255, 255)"


def test_on_paper_every_table_fits(browser: Browser, page: ReportPage) -> None:
    # The width of A4 between its margins, in CSS pixels.
    browser.open(page, 695)
    browser.command("Emulation.setEmulatedMedia", media="print")
    assert browser.run(OVERFLOW) == 0


@pytest.mark.parametrize("name", ["Caravaggio", HOSTILE])
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_evidence_is_readable_whole_and_runs_nothing(
    browser: Browser,
    evidence_about: Callable[[str], EvidencePage],
    name: str,
    width: int,
    scheme: str,
) -> None:
    path = browser.open(evidence_about(name), width, scheme)
    assert browser.driver.get_log("browser") == []
    assert all(url.startswith("data:") for url in browser.requests() - {path.as_uri()})
    assert browser.run("return document.scripts.length") == 0
    assert browser.driver.title == f"Evidence about {name} in miniature"
    assert name in browser.run("return document.body.innerText")
    assert browser.run(BEYOND_THE_EDGE) == []
    assert browser.run(OVERFLOW) == 0
    assert [text for text in browser.run(CONTRASTS) if text["ratio"] < text["needed"]] == []
    headings = 'return [...document.querySelectorAll("h1,h2,h3,h4")].map(h => +h.tagName[1])'
    levels = browser.run(headings)
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(browser.run('return [...document.querySelectorAll("table")].map(t => t.caption)'))
    assert all(browser.run("return [...document.images].map(i => i.alt)"))


def test_evidence_fits_on_paper_with_nothing_folded_away(
    browser: Browser, evidence_about: Callable[[str], EvidencePage]
) -> None:
    browser.open(evidence_about("Caravaggio"), 695)
    browser.command("Emulation.setEmulatedMedia", media="print")
    assert browser.run(OVERFLOW) == 0
    shown = 'return [...document.querySelectorAll("details > *")].map(e => e.checkVisibility())'
    assert set(browser.run(shown)) == {True}
