"""The page in a real browser: opened from a file, looked at, clicked through. Skipped where there is no Chromium."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from page_records import HOSTILE, odd, showcase, study

from dwbench.report.formats import decimals, one_score, short
from dwbench.report.page.document import document
from dwbench.report.page.payload import payload
from dwbench.report.page.published_points import every_published
from dwbench.report.table import table

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,900",
)  # fmt: skip
LABEL = f"ifd({HOSTILE})"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(document(payload(study(), ())), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of records that fill every part."""
    path = tmp_path_factory.mktemp("page") / "full.html"
    failed = [{"run": "ab", "error": HOSTILE, "command": "dwbench run"}]
    path.write_text(document(payload(showcase(), every_published(), failed=failed)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def odd_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "odd.html"
    path.write_text(document(payload(odd(), ())), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Chrome]":
    pytest.importorskip("selenium")
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium with its chromedriver: apt-get install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def shown(chrome: "Chrome", page: Path) -> "Iterator[Chrome]":
    """The page, freshly opened; at the end nothing was wrong and nothing of the data has run."""
    opened(chrome, page.as_uri())
    yield chrome
    check_quiet(chrome)


def check_quiet(chrome: "Chrome") -> None:
    assert chrome.execute_script("return window.hacked") is None
    assert [entry["message"] for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def opened(chrome: "Chrome", address: str) -> None:
    chrome.get("about:blank")  # another fragment alone would load nothing
    chrome.set_window_size(1280, 900)
    chrome.get(address)
    until(chrome, "return document.documentElement.dataset.ready === 'true'")


def until(chrome: "Chrome", script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(chrome, 60).until(lambda driver: driver.execute_script(script))


def by_css(chrome: "Chrome", css: str) -> list[Any]:
    return chrome.find_elements("css selector", css)


def choose(chrome: "Chrome", name: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(chrome.find_element("id", name)).select_by_value(value)


def texts(chrome: "Chrome", css: str) -> list[str]:
    found = chrome.execute_script(f"return [...document.querySelectorAll({json.dumps(css)})].map(e => e.textContent)")
    return [str(text) for text in found]


def run_table(chrome: "Chrome", column: int) -> list[str]:
    return texts(chrome, f"#f-runs tbody tr td:nth-child({column})")


def test_everything_is_drawn(shown: "Chrome") -> None:
    drawn = texts(shown, ".canvas .main-svg")
    assert len(by_css(shown, ".canvas .plot-container")) >= 8
    assert any("rouge_l ↑" in text for text in drawn)
    assert by_css(shown, "h1")[0].text == "Which selector pays, and at what cost"
    assert "can't be told: one seed compares" in shown.find_element("id", "s-short").text
    assert len(texts(shown, "#overview-table tbody tr")) == 3
    labels = [canvas.get_attribute("aria-label") for canvas in by_css(shown, ".canvas")]
    assert all(label and label.endswith("The numbers stand in the table below.") for label in labels)
    tables = shown.execute_script(
        "return [...document.querySelectorAll('.canvas + details')].map(e => e.querySelectorAll('tbody tr').length)"
    )
    assert len(tables) == len(labels)
    assert all(tables)


def test_hostile_texts_are_shown_as_texts(shown: "Chrome") -> None:
    assert any(LABEL in text for text in run_table(shown, 1))
    assert any(HOSTILE in text for text in texts(shown, ".sample p"))
    assert not by_css(shown, "#main img")
    drawn = " ".join(texts(shown, "#f-costs .yaxislayer-above text, #f-budgets .yaxislayer-above text"))
    assert "ifd(" in drawn
    assert "script>" in drawn  # cut for the axis, but not read as a tag


def test_a_hover_tells_of_the_point_and_a_click_opens_its_run(shown: "Chrome") -> None:
    from selenium.webdriver import ActionChains

    choose(shown, "c-budget", "100")
    plot = shown.find_element("id", "f-quality")
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    x, y = shown.execute_script(
        "const canvas = document.querySelector('#f-quality .canvas'), all = canvas._fullLayout;"
        "const trace = canvas.data.find((one) => one.customdata && (one.name || '').startsWith('ifd('));"
        "const at = canvas.getBoundingClientRect();"
        "return [at.x + all._size.l + all.xaxis.d2p(trace.x[0]), at.y + all._size.t + all.yaxis.d2p(trace.y[0])]"
        ".map(Math.round)"
    )
    actions = ActionChains(shown)
    actions.w3c_actions.pointer_action.move_to_location(x - 1, y)
    actions.w3c_actions.pointer_action.move_to_location(x, y)
    actions.perform()
    until(shown, "return document.querySelectorAll('#f-quality .hoverlayer .hovertext').length > 0")
    told = texts(shown, "#f-quality .hoverlayer .hovertext")[0].replace("\u00a0", " ")
    assert "<script>" in told
    assert "100 rows" in told
    actions.w3c_actions.pointer_action.click()
    actions.perform()
    until(shown, "return document.getElementById('detail').open")
    assert shown.find_element("id", "h-detail").text.startswith("ifd(")


def test_runs_are_sorted_by_the_buttons_of_the_head(shown: "Chrome") -> None:
    def click(name: str) -> None:
        heads = by_css(shown, "#f-runs th")
        head = next(head for head in heads if head.text.rstrip(" ▴▾") == name)
        head.find_element("css selector", "button").send_keys("\n")

    def sorted_by() -> list[str | None]:
        return [head.get_attribute("aria-sort") for head in by_css(shown, "#f-runs th")]

    click("selection s")
    assert run_table(shown, 5)[-1] == "900"
    assert sorted_by().count("ascending") == 1
    click("selection s")
    assert run_table(shown, 5)[0] == "900"
    assert sorted_by().count("descending") == 1
    assert shown.switch_to.active_element.text.startswith("selection s")


def test_runs_are_found_by_words(shown: "Chrome") -> None:
    before = len(run_table(shown, 1))
    shown.find_element("id", "c-find").send_keys("nuggets 50, seed 0")
    assert set(run_table(shown, 1)) == {"nuggets"}
    assert set(run_table(shown, 2)) == {"50"}
    assert shown.find_element("id", "n-runs").text == "1 of 14 runs"
    shown.find_element("id", "c-find").clear()
    shown.find_element("id", "c-find").send_keys("seed 1")  # and not rows 100 or 1,000
    assert run_table(shown, 1) == []
    shown.find_element("id", "c-find").clear()
    shown.find_element("id", "c-find").send_keys("1,000 rows")
    assert run_table(shown, 1) == ["full"]
    shown.find_element("id", "c-find").clear()
    shown.find_element("id", "c-find").send_keys("x\ue003")  # backspace
    assert len(run_table(shown, 1)) == before == 12
    shown.find_element("id", "c-everywhere").click()
    assert len(run_table(shown, 1)) == 14


def test_filters_drive_plots_and_never_mix(shown: "Chrome") -> None:
    assert set(run_table(shown, 2)) == {"50", "100", "0", "1,000"}
    choose(shown, "c-budget", "50")
    assert "100" not in run_table(shown, 2)
    told = texts(shown, "#f-quality details tbody td:nth-child(2)")
    assert set(told) == {"50", "1,000", "–"}
    choose(shown, "c-dataset", "gsm8k")
    assert shown.find_element("id", "title").text.startswith("gsm8k")
    assert len(run_table(shown, 1)) == 2
    assert len(texts(shown, "#f-quality details tbody tr")) == 2
    choose(shown, "c-metric", "nll")
    assert "nll ↓" in " ".join(texts(shown, "#f-quality .canvas text"))
    assert "no scores by test row" in shown.find_element("id", "f-random").text
    choose(shown, "c-cost", "flop")
    assert "STR (FLOP)" in " ".join(texts(shown, "#f-quality .canvas text"))


def test_selectors_are_hidden_by_the_legend(shown: "Chrome") -> None:
    before = len(texts(shown, "#f-quality details tbody tr"))
    button = next(button for button in by_css(shown, "#legend button") if "nuggets" in button.text)
    button.click()
    pressed = [button.get_attribute("aria-pressed") for button in by_css(shown, "#legend button")]
    assert pressed.count("false") == 1
    assert len(texts(shown, "#f-quality details tbody tr")) == before - 2


def test_a_link_leads_to_a_run_and_escape_back(shown: "Chrome") -> None:
    link = next(one for one in by_css(shown, "#f-runs tbody a") if one.text == "nuggets")
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    key = link.get_attribute("href").split("#run=")[1]
    link.send_keys("\n")
    dialog = shown.find_element("id", "detail")
    until(shown, "return document.getElementById('detail').open")
    for word in ("nuggets", key, "e" * 40, "Test CPU, 2 cores", "dwbench run", "rouge_l", "STR 3 in seconds"):
        assert word in dialog.text
    shown.switch_to.active_element.send_keys("\ue00c")  # Esc
    until(shown, "return !document.getElementById('detail').open")
    assert shown.switch_to.active_element == link
    assert "#run" not in shown.current_url


def test_an_address_opens_its_run_and_setting(chrome: "Chrome", page: Path) -> None:
    key = next(record.run for record in study() if record.dataset == "gsm8k")
    opened(chrome, f"{page.as_uri()}#run={key}")
    assert chrome.execute_script("return document.getElementById('detail').open")
    assert key in chrome.find_element("id", "detail").text
    assert texts(chrome, "#title")[0].startswith("gsm8k")
    for odd_one in ("nothing", "constructor", "__proto__", "%E0%A4%A"):
        opened(chrome, f"{page.as_uri()}#run={odd_one}")
        assert f"no run {odd_one}" in chrome.find_element("id", "detail").text
    opened(chrome, f"{page.as_uri()}#costs")
    until(chrome, "return Math.abs(document.getElementById('costs').getBoundingClientRect().top) < 200")
    check_quiet(chrome)


def test_dark_and_light(shown: "Chrome") -> None:
    def brightness() -> int:
        colour = shown.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(int(number) for number in re.findall(r"\d+", colour)[:3])

    def ink() -> str:
        return str(shown.execute_script("return document.querySelector('#f-quality .xtick text').style.fill"))

    light, before = brightness(), ink()
    shown.find_element("id", "theme").click()
    assert brightness() < 150 < 600 < light
    assert ink() != before
    shown.find_element("id", "theme").click()
    assert (brightness(), ink()) == (light, before)


def test_a_phone_scrolls_one_way_only(shown: "Chrome") -> None:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    shown.get(shown.current_url)
    shown.refresh()
    until(shown, "return document.documentElement.dataset.ready === 'true'")
    widths = shown.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widths == [360, 360]


def test_the_keyboard_finds_its_way(shown: "Chrome") -> None:
    from selenium.webdriver import ActionChains

    ActionChains(shown).send_keys("\t").perform()
    focused = shown.switch_to.active_element
    assert focused.text == "Skip to the results"
    assert shown.execute_script("return getComputedStyle(arguments[0]).outlineStyle", focused) != "none"
    names = shown.execute_script(
        "return [...document.querySelectorAll('select, input')].filter(e => !e.closest('label')).map(e => e.id)"
    )
    assert names == []


def test_numbers_are_written_as_in_the_table(shown: "Chrome") -> None:
    (section, *_) = table(study()[:12]).sections
    written = {
        (row.label, "–" if row.budget is None else f"{row.budget:,}"): "~" * row.ratio.estimated
        + short(row.ratio.seconds)
        for row in section.rows
    }
    cells = shown.execute_script(
        "return [...document.querySelectorAll('#f-quality details tbody tr')]"
        ".map((line) => [...line.cells].map((cell) => cell.textContent))"
    )
    assert {(line[0], line[1]): line[3] for line in cells} == written
    scores = {line[0]: line[2] for line in cells}
    digits = decimals(row.scores["rouge_l"] for row in section.rows)
    assert scores["full"] == one_score(section.rows[-1].scores["rouge_l"], digits)


def test_every_part_is_filled(chrome: "Chrome", full_page: Path) -> None:
    opened(chrome, full_page.as_uri())
    for part in (
        "quality",
        "random",
        "budgets",
        "costs",
        "grid",
        "layer",
        "spearman",
        "overlap",
        "lengths",
        "perplexity",
    ):
        assert by_css(chrome, f"#f-{part} .plot-container"), part
    assert len(by_css(chrome, "#f-random .plot-container")) == 3  # a budget each
    assert len(by_css(chrome, "#f-perplexity .plot-container")) == 2
    assert len(texts(chrome, "#f-diversity tbody tr")) > 20
    assert len(by_css(chrome, ".sample")) == 6
    assert "1 run failed and is not on this page" in texts(chrome, "#failed summary")
    assert HOSTILE in texts(chrome, "#failed td")
    before = len(texts(chrome, "#f-quality details tbody tr"))
    chrome.find_element("id", "c-published").click()
    assert len(texts(chrome, "#f-quality details tbody tr")) > before + 9
    choose(chrome, "c-budget", "50")
    assert len(by_css(chrome, "#f-random .plot-container")) == 1
    assert all("50 of 1000 rows" in text for text in texts(chrome, "#c-agreement option"))
    choose(chrome, "c-dataset", "dialogsum with planted noise")
    choose(chrome, "c-model", "smollm2-135m")
    assert by_css(chrome, "#f-kinds .plot-container")
    assert "no metric" in texts(chrome, "#f-runs th button")
    check_quiet(chrome)


def test_odd_records_break_nothing(chrome: "Chrome", odd_page: Path) -> None:
    opened(chrome, odd_page.as_uri())
    lines = texts(chrome, "#overview-table tbody tr")
    assert len(lines) == 5
    (undirected,) = [line for line in lines if "undirected" in line]
    assert not re.search("[↑↓]", undirected)
    assert "not known which way is better" in undirected
    for name in ("bounds", "undirected", "no_number", "selections", "long"):
        choose(chrome, "c-dataset", name)
        assert texts(chrome, "#title")[0].startswith(name)
        assert chrome.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"), name
        for cost in ("flop", "total", "seconds"):
            choose(chrome, "c-cost", cost)
        words = chrome.find_element("id", "main").text
        assert not re.search(r"\b(null|undefined|NaN|Infinity)\b", words), name
    check_quiet(chrome)


def test_padding_of_the_panel_is_no_way_out(shown: "Chrome") -> None:
    shown.execute_script("location.hash = 'run=' + Object.keys(JSON.parse(payload.textContent).runs)[0]")
    until(shown, "return document.getElementById('detail').open")
    left = shown.execute_script("return document.getElementById('detail').getBoundingClientRect().left")
    click(shown, left + 4, 400)
    assert shown.execute_script("return document.getElementById('detail').open")
    click(shown, left - 30, 400)
    until(shown, "return !document.getElementById('detail').open")


def click(chrome: "Chrome", x: float, y: float) -> None:
    from selenium.webdriver import ActionChains

    actions = ActionChains(chrome)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.w3c_actions.pointer_action.click()
    actions.perform()
