"""The page as a document: what is on it, in which order, and that nothing on it acts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from shiftreg.attacks.results import AttackReport
from shiftreg.reports import Note, ReportPage, render_page

README = Path(__file__).parents[2] / "README.md"
VOID = {"meta", "link", "img", "br"}


class Document(HTMLParser):
    """Elements with their attributes and text; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_verdict_and_every_state_are_said_in_words(page: ReportPage) -> None:
    text = Document(render_page(page)).text
    assert "1 of 2 checks FAILED." in text
    assert "1 concept is erased; 1 generates." in text
    assert "erased (version 2)" in text
    passed = replace(page, checks=tuple(check for check in page.checks if check.passed))
    assert "All 1 checks passed." in Document(render_page(passed)).text


def test_failed_checks_come_first(page: ReportPage) -> None:
    text = Document(render_page(page)).text
    gates = text.partition("Checks of the verification")[2]
    assert gates.index("FAILED") < gates.index("Untouched.")


def test_a_rate_stands_with_its_interval(page: ReportPage) -> None:
    text = Document(render_page(page)).text
    assert "[0.1, 0.4]" in text.partition("Checks of the verification")[2]


def test_the_limits_are_those_of_the_readme_and_no_law_is_judged(page: ReportPage) -> None:
    section = README.read_text(encoding="utf-8").partition("## What it does not do")[2]
    paragraph = " ".join(section.partition("\n## ")[0].replace("*", "").split())
    text = Document(render_page(page)).text
    assert paragraph in text
    assert "complian" not in text.lower()


def test_every_image_is_inside_the_page_and_has_words(page: ReportPage) -> None:
    images = Document(render_page(page)).all("img")
    assert len(images) == 16
    assert images[0]["alt"] == "Caravaggio, seed 0, base"
    assert images[4]["alt"] == "Caravaggio, seed 0, composition"
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in images)


def test_nothing_is_asked_of_the_network_and_nothing_runs(page: ReportPage) -> None:
    html = render_page(page)
    document = Document(html)
    assert not document.all("script")
    assert {link["href"] for link in document.all("link")} == {"data:,"}
    addresses = [value for _, a in document.elements for key, value in a.items() if key == "href"]
    assert all(str(address).startswith(("#", "data:")) for address in addresses)
    assert "url(" not in html
    assert "@import" not in html
    assert not re.search(r"\son\w+=", html)
    policy = next(m for m in document.all("meta") if "http-equiv" in m)
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_headings_are_in_order_and_every_link_leads_somewhere(page: ReportPage) -> None:
    document = Document(render_page(page))
    levels = [int(tag[1]) for tag, _ in document.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [str(a["id"]) for _, a in document.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {str(a["href"])[1:] for a in document.all("a")}
    assert targets <= set(ids)


def test_every_table_has_a_caption_headers_and_a_region_that_scrolls(page: ReportPage) -> None:
    document = Document(render_page(page))
    tables = len(document.all("table"))
    assert tables >= 8
    assert len(document.all("caption")) == tables
    assert all("scope" in header for header in document.all("th"))
    regions = [a for a in document.all("div") if a.get("role") == "region"]
    assert len(regions) == tables
    assert all(region["tabindex"] == "0" for region in regions)
    labels = [region["aria-label"] for region in regions]
    assert len(labels) == len(set(labels))


def test_the_heat_map_has_a_number_in_every_cell_and_a_colour_by_magnitude(
    page: ReportPage,
) -> None:
    html = render_page(page)
    for level, number in ((0, "3.0e-09"), (1, "4.0e-08"), (4, "2.0e-05"), (7, "5.0e-01")):
        assert f'<td class="h{level}">{number}</td>' in html
    assert "<td>own</td>" in html


def test_many_shifts_make_several_heat_maps_that_fit_on_paper(page: ReportPage) -> None:
    matrix = {f"artist {i}": {"": 1e-9, "Picasso": 1e-8} for i in range(23)}
    document = Document(render_page(replace(page, separability=matrix)))
    assert "Protected prompts by shifts (3 of 3)" in document.text
    maps = [a for a in document.all("table") if a.get("class") == "heat"]
    assert len(maps) == 3


def test_an_evaluation_shows_steps_intervals_paraphrases_and_the_papers_numbers(
    page: ReportPage,
) -> None:
    text = Document(render_page(page)).text
    assert "Step 2: erase Caravaggio (this composition)" in text
    assert text.count("(this composition)") == 1
    assert "0% (0% to 12%) of 30" in text
    assert "0.31 (0.29 to 0.33)" in text
    assert "misspellings (1)" in text
    assert "234.5/0.0/0.61" in text
    assert "not measurable" in text
    assert "Its goals were MISSED." in text
    assert "CCS 2024: 100% (90% to 100%) of 30, base 100% (90% to 100%) of 30" in text


def test_attacks_show_bars_with_their_numbers_in_words(page: ReportPage) -> None:
    html = render_page(page)
    text = Document(html).text
    assert "34% (28% to 43%) of 64" in text
    assert "steps 300, tokens 2; 42 s" in text
    assert '<rect class="value" width="34.0" height="10"/>' in html
    assert "not on this one" not in text


def test_attacks_on_another_composition_say_so(
    page: ReportPage, attack_on: Callable[..., AttackReport]
) -> None:
    other = attack_on("Caravaggio", "a" * 64)
    text = Document(render_page(replace(page, attacks=(other,)))).text
    assert "on composition aaaaaaaaaaaa, not on this one" in text


def test_what_is_missing_names_the_command_that_makes_it(page: ReportPage) -> None:
    note = Note("No evaluation of this composition is stored. Make one:", "shiftreg evaluate")
    html = render_page(replace(page, evaluation=None, evaluation_notes=(note,)))
    assert "<code>shiftreg evaluate</code>" in html


def test_a_training_has_a_curve_in_words_and_a_solve_says_so(page: ReportPage) -> None:
    document = Document(render_page(page))
    (drawing,) = [svg for svg in document.all("svg") if svg.get("role") == "img"]
    expected = "loss over steps 1 to 399: from 1 to 0.00251, between 0.00251 and 1"
    assert drawing["aria-label"] == expected
    solved = replace(page.shifts[0], curves=(), solved="Solved in one step.")
    text = Document(render_page(replace(page, shifts=(solved,)))).text
    assert "Solved in one step." in text


def test_a_page_about_the_bare_base_is_whole(page: ReportPage) -> None:
    bare = replace(
        page, separability={}, shifts=(), attacks=(), history=(), exports=(), file="", warnings=()
    )
    text = Document(render_page(bare)).text
    assert "this composition is the base, bit for bit" in text
    assert "No shift is applied" in text
    assert "No export of this composition is registered." in text


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "{{ 7 * 7 }}{% raw %}",
        "</style></title><b>",
    ],
)
def test_a_name_is_text_whatever_it_holds(
    page: ReportPage, page_about: Callable[[str], ReportPage], name: str
) -> None:
    plain, hostile = Document(render_page(page)), Document(render_page(page_about(name)))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(a) for _, a in hostile.elements] == [sorted(a) for _, a in plain.elements]
    assert name in hostile.text
    assert f"{name}, seed 0, base" in [image["alt"] for image in hostile.all("img")]


def test_characters_that_cannot_be_seen_are_spelled_out(
    page_about: Callable[[str], ReportPage],
) -> None:
    html = render_page(page_about("Cara\x1b[2J\u202evaggio\ud800"))
    assert r"Cara\x1b[2J\u202evaggio\ud800" in html
    assert not {"\x1b", "\u202e", "\ud800"} & set(html)
    html.encode("utf-8")
