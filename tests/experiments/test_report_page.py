"""The report from its command to the browser: it plays, it answers, and it needs no network."""

import shutil

import jax
import pytest
import tiny
from commands import assert_refused, run
from PIL import Image

from igm_jax import run_folder
from igm_jax.evaluation import judge, table
from igm_jax.evaluation.run import load_run
from igm_jax.training import loop

TEST_CLIPS = 40  # of tiny.write_store
# Chromium calls its makers at every start, and has no use for a graphics card here.
QUIET = (
    "--disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a store and a finished run, its copy, and results of the first."""
    folder = tmp_path_factory.mktemp("report")
    store = tiny.write_store(folder / "store")
    changes = {"data.path": str(folder / "store"), "train.epochs": 1}
    changes |= {"objective.feature_weight": 0, "objective.distribution_weight": 0}
    changes |= {"objective.condition_drop": 0.0, "optimizer.warmup_epochs": 0.5}
    first = jax.devices()[:1]
    loop.pretrain(tiny.config(changes), store, folder / "runs" / "tiny", devices=first)
    shutil.copytree(folder / "runs" / "tiny", folder / "runs" / "other")
    trained = load_run(folder / "runs" / "tiny")
    rows = judge.evaluate(trained, judge.evaluate_knn, baselines=False)
    table.save_rows(trained.folder / run_folder.KNN, trained, rows)
    return folder


@pytest.fixture(scope="module")
def made(folder):
    """The result of the command."""
    flags = ("--generate=3", "--figures=figures", "--out=pages/of/report.html")
    return run(folder, "report.py", "runs/tiny", "runs/other", *flags)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("Playwright is not installed: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=QUIET)
        yield opened
        opened.close()


class Opened:
    """The page in a window; `faults` are its errors and its requests to a network."""

    def __init__(self, browser, folder, width, scheme):
        window = {"width": width, "height": 900}
        self.page = browser.new_context(viewport=window, color_scheme=scheme).new_page()
        self.faults = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"{error}"))
        self.page.on("request", self._requested)
        self.page.goto((folder / "pages" / "of" / "report.html").as_uri())
        self.page.wait_for_selector("#curves .main-svg", timeout=60_000)

    def _said(self, message):
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _requested(self, request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.faults.append(request.url)

    def __call__(self, script, argument=None):
        return self.page.evaluate(script, argument)

    def pictures(self):
        return self("[...document.querySelectorAll('#panes canvas')].map(c => c.toDataURL())")

    def pause(self):
        if self.page.inner_text("#play") == "Pause":
            self.page.click("#play")


@pytest.fixture(scope="module")
def wide(browser, folder, made):
    assert made.returncode == 0, made.stderr
    return Opened(browser, folder, 1280, "light")


def test_the_command_ends_with_the_path_and_makes_figures(folder, made):
    assert made.returncode == 0, made.stderr
    *_, last = made.stdout.splitlines()
    assert last == "pages/of/report.html" and (folder / last).stat().st_size < 8e6
    figures = {path.name for path in (folder / "figures").iterdir()}
    names = ("map-t-sne", "curves", "confusion", "clips")
    assert figures == {f"{n}.{e}" for n in names for e in ("png", "pdf")} | {"clips.gif"}
    with Image.open(folder / "figures" / "clips.gif") as gif:
        assert gif.n_frames == 8
    assert (folder / "figures" / "clips.pdf").read_bytes().startswith(b"%PDF")


def test_every_part_has_content_and_nothing_is_wrong(wide):
    page = wide.page
    for part in ("summary", "explore", "training", "results", "confusion", "differences"):
        assert len(page.inner_text(f"#{part}")) > 40, part
    assert page.inner_text("h1") == "tiny" and "40 in test" in page.inner_text("#facts")
    assert page.locator("#map .scatterlayer .point").count() >= TEST_CLIPS
    assert page.locator("#matrix .heatmaplayer image").count() == 1
    assert page.locator("#curves .main-svg").count() >= 3
    assert page.locator("#tables tbody tr").count() == 1
    assert page.locator("#neighbours button").count() == 5
    assert "test, nearest neighbour" in page.inner_text("#differences")
    pictures = wide.pictures()
    assert len(set(pictures)) == 4, "four pictures, none like another"
    assert wide.faults == []


def test_the_clip_moves_while_it_plays_and_rests_when_it_is_paused(wide):
    page = wide.page
    wide.pause()
    resting = wide.pictures()
    page.wait_for_timeout(150)
    assert wide.pictures() == resting
    page.focus("#play")
    page.keyboard.press("Space")
    page.wait_for_timeout(150)
    playing, time = wide.pictures(), page.input_value("#time")
    page.wait_for_timeout(150)
    assert all(a != b for a, b in zip(playing, wide.pictures()))
    assert page.input_value("#time") != time
    wide.pause()


def test_the_sliders_and_the_keyboard_change_what_they_should(wide):
    """Time and view change all pictures, and noise those of x_t and x̂0 alone."""
    page = wide.page
    wide.pause()
    before = wide.pictures()
    page.focus("#noise")
    page.keyboard.press("ArrowRight")
    after = wide.pictures()
    assert [a == b for a, b in zip(before, after)] == [True, False, False, True]
    page.focus("#panes figure:first-child canvas")
    page.keyboard.press("ArrowLeft")
    turned = wide.pictures()
    assert all(a != b for a, b in zip(after, turned))
    page.click("#reset")
    assert wide.pictures() == after
    page.fill("#time", "0.5")
    assert all(a != b for a, b in zip(after, wide.pictures()))


# The place in the window of the point that is farthest from all others, and its row.
LONELY = """() => {
  const { left, top } = by("map").querySelector(".nsewdrag").getBoundingClientRect();
  const { xaxis, yaxis } = by("map")._fullLayout;
  const at = run().map.places["t-SNE"].map(([x, y]) => [left + xaxis.l2p(x), top + yaxis.l2p(y)]);
  const apart = (a, b) => (a === b ? 1e9 : Math.hypot(a[0] - b[0], a[1] - b[1]));
  const near = at.map((a) => Math.min(...at.map((b) => apart(a, b))));
  near[state.clip] = 0;
  const row = near.indexOf(Math.max(...near));
  return [row, ...at[row]];
}"""


def test_a_click_on_the_map_plays_that_clip(wide):
    page = wide.page
    page.evaluate("by('map').scrollIntoView({ behavior: 'instant' })")
    wide.pause()
    before = wide.pictures()[0]
    row, x, y = wide(LONELY)
    page.mouse.click(x, y)
    assert page.input_value("#clip") == str(row)
    assert page.inner_text("#play") == "Pause"
    name = wide("(row) => run().map.names[row]", row)
    assert name in page.inner_text("#clip-facts")
    page.wait_for_timeout(100)
    assert wide.pictures()[0] != before


def test_another_run_is_one_choice_away(wide):
    page = wide.page
    page.select_option("#run", "1")
    page.wait_for_function("document.querySelector('h1').textContent === 'other'")
    assert "No protocol was run" in page.inner_text("#tables")
    assert "evaluate.py runs/other" in page.inner_text("#confusion")
    page.wait_for_timeout(100)
    assert len(set(wide.pictures())) == 4 and wide.faults == []


def test_a_phone_in_the_dark_scrolls_in_one_direction_only(browser, folder, wide):
    phone = Opened(browser, folder, 390, "dark")
    assert phone("document.documentElement.scrollWidth") <= 390
    ground = "getComputedStyle(document.body).backgroundColor"
    assert phone(ground) != wide(ground)
    phone.page.click("details:last-of-type summary")  # the widest table
    assert phone("document.documentElement.scrollWidth") <= 390
    assert phone.faults == []


def test_a_missing_package_is_named_with_its_extra(folder, monkeypatch):
    bare = folder / "bare"
    bare.mkdir()
    text = "raise ModuleNotFoundError('gone', name='plotly')"
    (bare / "plotly.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(bare))
    assert_refused(
        run(folder, "report.py", "runs/tiny"), "no report without plotly: pip install", "[viz]"
    )
