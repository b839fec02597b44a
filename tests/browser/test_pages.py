"""What a person looks for on each page of a sweep is there, and can be read and used."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from sweeps.publish.notes import Leaderboard
from sweeps.schema import CONFIRMATION
from sweeps.sweep import open_sweep
from tests.browser.conftest import PATIENCE, Served

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE)

SIZES: Any = ({"width": 390, "height": 844}, {"width": 1400, "height": 900})
"""A phone, then the screen of most other tests."""


def board(served: Served) -> Leaderboard:
    return Leaderboard(open_sweep(served.store, "shown").read_trials())


def cells(page: Page, column: str) -> list[str]:
    """The texts of a column of MLflow's run table, from the top."""
    rows = page.locator(f'[role=gridcell][col-id="{column}"]')
    return [text.splitlines()[-1] for text in rows.all_inner_texts()]


def is_loaded(picture: Locator) -> bool:
    """Whether a picture is there and can be seen."""
    return bool(picture.evaluate("image => image.complete && image.naturalWidth > 100"))


def expect_no_sideways_scrolling(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def brightness(page: Page, colour: str) -> float:
    """That of the page's background or ink, from 0 to 255."""
    text = page.evaluate(f"getComputedStyle(document.body)['{colour}']")
    return sum(map(float, re.findall(r"[\d.]+", text)[:3])) / 3


def test_the_printed_link_opens_the_table_of_trials(page: Page, served: Served) -> None:
    link = served.links[0].removeprefix("shown: ")
    assert link == f"{served.address}/runs/shown"
    page.goto(link)
    expect(page.get_by_text("4 matching runs")).to_be_visible()  # the interrupted one is hidden
    rows = board(served).rows
    expect(page.get_by_role("link", name=re.compile("^trial-000")).nth(3)).to_be_visible()
    names = [f"trial-{one.trial.number:04d}" for one in rows]
    assert cells(page, "attributes.`Run Name`") == names
    assert cells(page, "metrics.`rank`") == ["1", "2", "3", "4"]
    shown = [f"{round(one.likely.value, 1):g}" for one in rows]
    assert cells(page, "metrics.`expected_return`") == shown
    assert len(cells(page, "params.`ppo.learning_rate`")) == 4
    verdict = re.compile("^(Not c|C)onfirmed[.:]")
    expect(page.get_by_text(verdict).first).to_be_visible()  # it comes first


@pytest.mark.parametrize("number", [1, 2])
def test_the_page_of_a_trial_shows_what_it_did(page: Page, served: Served, number: int) -> None:
    row = next(one for one in board(served).rows if one.trial.number == number)
    page.goto(f"/#/experiments/1/runs/{served.run_of(number)}")
    rank = board(served).rank(row.trial)
    first = f"Trial {number}, promised {row.likely.promised:.1f}, expect {row.likely}"
    expect(page.get_by_text(f"{first}; rank {rank} of 4.")).to_be_visible()
    flight = page.locator("img[src*='landing.gif']")
    expect(flight).to_be_visible()
    assert is_loaded(flight)
    score = page.locator("tr", has=page.get_by_role("cell", name="score", exact=True)).first
    expect(score).to_contain_text(f"{row.trial.values[0]:.1f}")
    expect(page.get_by_text("Retrain it and compare bit for bit")).to_be_attached()
    expect(page.get_by_text(re.compile(rf"reproduce .*\b{number}\b")).first).to_be_attached()


def test_a_training_of_the_confirmation_says_what_it_was_for(page: Page, served: Served) -> None:
    page.goto(f"/#/experiments/1/runs/{served.run_of(1, study='shown@confirm')}")
    expect(page.get_by_text("Trial 1, the base under report seed 1: score ")).to_be_visible()
    flight = page.locator("img[src*='landing.gif']")
    expect(flight).to_be_visible()
    assert is_loaded(flight)


def test_the_registered_model_says_what_it_is_and_where_it_is_from(
    page: Page, served: Served
) -> None:
    page.goto("/#/models/shown")
    expect(page.get_by_text("Policies of study shown")).to_be_visible()
    flight = page.locator("img[src*='best.gif']")
    expect(flight).to_be_visible()
    assert is_loaded(flight)
    page.get_by_role("link", name="Version 1", exact=True).click()
    expect(page.get_by_text(re.compile(r"The policy of trial \d: the best of"))).to_be_visible()
    source = page.get_by_role("link", name=re.compile(r"^trial-000\d$")).first
    expect(source).to_be_visible()


def test_the_start_page_leads_to_everything(page: Page, served: Served) -> None:
    for size in SIZES:
        page.set_viewport_size(size)
        page.goto("/start")
        expect(page.get_by_role("heading", name="shown", exact=True)).to_be_visible()
        verdict = open_sweep(served.store, "shown").optuna.user_attrs[CONFIRMATION]
        expect(page.get_by_text(verdict)).to_be_visible()
        assert is_loaded(page.locator("img"))
        expect_no_sideways_scrolling(page)
    links = {link.inner_text(): link.get_attribute("href") for link in page.locator("a").all()}
    assert {"Report", "Runs", "Curves", "Fields", "Confirmation", "MLflow"} <= links.keys()
    assert all(page.request.get(str(address)).ok for address in links.values())
    page.get_by_role("link", name="Curves").click()
    expect(page.get_by_text("Showing all runs")).to_be_visible()  # by the parallel coordinates


@pytest.mark.parametrize("width", [1400, 390])
def test_the_report_can_be_read_and_asked(page: Page, served: Served, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(served.page)  # the file itself, as it is mailed
    expect(page.get_by_role("heading", name="Study shown")).to_be_visible()
    expect(page.get_by_text("onfirmed: ").first).to_be_visible()
    expect_no_sideways_scrolling(page)
    film = page.locator("img[src^='data:image/gif']").first
    assert is_loaded(film)

    mark = page.locator("a.mark").first
    mark.hover()
    tip = page.locator(".tip")
    expect(tip).to_be_visible()
    expect(tip).to_have_text(re.compile(r"^trial \d+: score -?\d+\.\d"))
    for other in page.locator("a.mark.same").all():
        assert other.get_attribute("data-trial") == mark.get_attribute("data-trial")

    table = page.locator("h2#all-trials ~ div table, h2#all-trials ~ table").first
    table.get_by_role("button", name="score").click()
    head = table.locator("th", has=page.get_by_role("button", name="score"))
    expect(head).to_have_attribute("aria-sort", "descending")
    column = head.evaluate("head => head.cellIndex")
    scores = table.locator(f"tbody tr td:nth-child({column + 1})").all_inner_texts()
    assert scores == sorted(scores, key=float, reverse=True)
    assert len(scores) == 4


def test_the_report_is_dark_where_the_reader_likes_that(page: Page, served: Served) -> None:
    page.goto(served.page)
    assert brightness(page, "backgroundColor") > 230 > 80 > brightness(page, "color")
    page.emulate_media(color_scheme="dark")
    assert brightness(page, "backgroundColor") < 50 < 200 < brightness(page, "color")


def test_the_report_prints_on_a_few_sheets(page: Page, served: Served) -> None:
    page.goto(served.page)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 with its margins
    expect_no_sideways_scrolling(page)
    sheets = page.pdf(format="A4").count(b"/Type /Page\n")
    assert 3 <= sheets <= 12


def test_a_mark_in_the_report_leads_to_the_run_on_the_same_server(
    page: Page, served: Served
) -> None:
    page.goto("/reports/shown.html")
    mark = page.locator("a.mark").first
    number = str(mark.get_attribute("data-trial"))
    with page.context.expect_page() as opened:
        mark.click()
    run = opened.value
    expect(run.get_by_text(re.compile(rf"^Trial {number}, promised "))).to_be_visible()
    address = f"{served.address}/#/experiments/1/runs/{served.run_of(int(number))}"
    assert run.url.startswith(address)


def test_a_notebook_can_be_read_on_a_screen_and_on_a_phone(page: Page) -> None:
    page.goto("/start")
    page.get_by_role("link", name=re.compile("^Notebook ")).first.click()
    for size in SIZES:
        page.set_viewport_size(size)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect_no_sideways_scrolling(page)
        assert is_loaded(page.locator("img").first)
