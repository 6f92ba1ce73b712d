"""The page in a real browser: what is seen at a wide and a narrow window, and what moves it.

The browser is Chromium, told what to do over a pipe (Chrome DevTools Protocol).
"""

import base64
import io
import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from clipsr_cli.reports import write_page

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]

# What a browser reads and writes must be file descriptors 3 and 4.
START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
COMPLAINTS = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
WIDE, NARROW = (1400, 1000), (400, 900)
COLOURS = {
    "mini": (220, 30, 30),
    "bicubic": (120, 120, 120),
    "reference": (30, 180, 30),
    "low": (30, 30, 220),
}
SCORES = {
    "mini": {"lpips": [0.3, 0.1, 0.2], "psnr": [30.0, 20.0, 25.0]},
    "bicubic": {"lpips": [0.4, 0.6, 0.5], "psnr": [20.0, 21.0, 22.0]},
}


class Browser:
    """A running browser with one page."""

    def __init__(self, folder):
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        self._waiting, self._count, self._session = b"", 0, {}
        self.heard = []
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += ["--disable-dev-shm-usage"]
        options += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(commands), str(answers), BROWSER, *options],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def tell(self, method, **parameters):
        """Send a command and give what it answers; events that come before are kept."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": parameters, **self._session}
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self.heard.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        deadline = time.monotonic() + 120
        while b"\0" not in self._waiting:
            left = deadline - time.monotonic()
            assert left > 0, "the browser does not answer"
            if select.select([self._read], [], [], left)[0]:
                part = os.read(self._read, 2**20)
                assert part, "the browser has ended"
                self._waiting += part
        message, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(message)

    def open(self, path, size, scheme="light"):
        """Load a page in a window of that size and wait for its end."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.tell("Emulation.setEmulatedMedia", features=features)
        self.heard.clear()
        self.tell("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.heard):
            self.heard.append(self._next())

    def run(self, script):
        """The value of an expression in the page."""
        found = self.tell("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def look(self):
        """What is seen: (H, W, 3)."""
        found = self.tell("Page.captureScreenshot", format="png")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(found["data"]))).convert("RGB"))

    def press(self, key, code):
        for kind in ("rawKeyDown", "keyUp"):
            self.tell("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def drag(self, *places):
        """Press the mouse at the first place, move over the others and let go."""
        steps = ["mousePressed", *["mouseMoved"] * (len(places) - 1)]
        for kind, (x, y) in zip(steps, places, strict=True):
            self._mouse(kind, x, y)
        self._mouse("mouseReleased", *places[-1])

    def _mouse(self, kind, x, y):
        self.tell(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
        )

    def complaints(self):
        """Errors and warnings of the console, and everything asked of the network."""
        found = [event for event in self.heard if event["method"] in COMPLAINTS]
        asked = [
            event["params"]["request"]["url"]
            for event in self.heard
            if event["method"] == "Network.requestWillBeSent"
        ]
        return found + [url for url in asked[1:] if not url.startswith("data:")]

    def close(self):
        os.close(self._write)
        os.close(self._read)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.fixture
def page(make_report, flat_pictures, tmp_path):
    """The page of a small report, each kind of picture in a colour of its own."""
    report = make_report(
        SCORES,
        names=["c/long_name_of_a_picture_0001", "a", "b"],
        missing={"niqe": "NIQE needs pyiqa, which is non-commercial."},
        failed={"broken": "It cannot be decoded."},
    )
    path = tmp_path / "page.html"
    write_page(report, path, flat_pictures(report, COLOURS))
    return path


def box(browser, selector):
    """Left, top, width and height of an element, brought into view."""
    script = (
        f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
        "e.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )
    return browser.run(script)


def seen(browser, *shares, selector=".compare"):
    """The kinds of picture that are seen at so large shares of the first one's width."""
    left, top, width, height = box(browser, selector)
    picture = browser.look()
    kinds = []
    for share in shares:
        # Away from the handle and the names.
        colour = picture[int(top + height / 4), int(left + width * share)].astype(int)
        far = {kind: math.dist(colour, wanted) for kind, wanted in COLOURS.items()}
        kind = min(far, key=far.get)
        kinds.append(kind if far[kind] < 15 else tuple(colour))
    return kinds


def choose(browser, name, words):
    browser.run(
        f"(() => {{ const s = document.querySelector('select[name={name}]');"
        f"s.value = [...s.options].findIndex((o) => o.text.startsWith({json.dumps(words)}));"
        "s.dispatchEvent(new Event('change')); })()"
    )


def names(browser):
    return browser.run("[...document.querySelectorAll('h3')].map((h) => h.textContent)")


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_seen_whole_and_without_complaint(browser, page, size, scheme):
    browser.open(page, size, scheme)

    top = browser.look()
    assert browser.run("document.documentElement.scrollWidth") == size[0]
    assert browser.complaints() == []
    assert top.shape == (size[1], size[0], 3)
    # The ground of the scheme, and something on it.
    ground = int(top[-3, 3].mean())
    assert ground > 220 if scheme == "light" else ground < 50
    assert 0.005 < (np.abs(top.astype(int) - top[-3, 3]).max(axis=2) > 60).mean() < 0.6
    # No text is cut off at the sides, and none is too small to be read.
    for left, right in browser.run(
        "[...document.querySelectorAll('h1, h2, h3, p, select, .compare, .plot')]"
        ".map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.right])"
    ):
        assert 0 < left < right < size[0]
    assert (
        browser.run(
            "Math.min(...[...document.querySelectorAll('main *')]"
            ".filter((e) => e.textContent.trim() && !e.closest('svg'))"
            ".map((e) => parseFloat(getComputedStyle(e).fontSize)))"
        )
        >= 10
    )
    assert seen(browser, 0.2, 0.8) == ["bicubic", "mini"]


def test_pictures_stand_side_by_side_where_there_is_room(browser, page):
    columns = {}
    for size in (WIDE, NARROW):
        browser.open(page, size)
        lefts = "[...document.querySelectorAll('.card')].map((c) => c.getBoundingClientRect().left)"
        columns[size] = len(set(browser.run(lefts)))

    assert columns == {WIDE: 3, NARROW: 1}


def test_the_slider_moves_by_mouse_and_by_keyboard(browser, page):
    browser.open(page, WIDE)
    left, top, width, height = box(browser, ".compare")
    y = top + height / 3

    browser.drag((left + width * 0.5, y), (left + width * 0.6, y), (left + width * 0.75, y))
    assert seen(browser, 0.2, 0.6, 0.7, 0.8) == ["bicubic", "bicubic", "bicubic", "mini"]

    browser.drag((left + width * 0.1, y))
    assert seen(browser, 0.05, 0.2, 0.8) == ["bicubic", "mini", "mini"]

    browser.press("End", 35)
    assert seen(browser, 0.1, 0.5, 0.95) == ["bicubic"] * 3
    browser.press("Home", 36)
    assert seen(browser, 0.05, 0.5, 0.9) == ["mini"] * 3
    for _ in range(12):
        browser.press("ArrowRight", 39)
    assert seen(browser, 0.05, 0.2) == ["bicubic", "mini"]
    # The others stay where they were.
    assert browser.run("document.querySelectorAll('.compare input')[1].value") == "50"
    assert browser.complaints() == []


def test_what_is_compared_can_be_chosen_and_swapped(browser, page):
    browser.open(page, NARROW)

    choose(browser, "left", "reference")
    assert seen(browser, 0.2, 0.8) == ["reference", "mini"]
    choose(browser, "right", "low")
    assert seen(browser, 0.2, 0.8) == ["reference", "low"]
    browser.run("document.querySelector('.swap').click()")
    assert seen(browser, 0.2, 0.8) == ["low", "reference"]
    label = browser.run("document.querySelector('.compare input').getAttribute('aria-label')")
    assert label.endswith("from the left low (its pixels), then reference")
    choose(browser, "right", "low")
    assert seen(browser, 0.2, 0.8) == ["low", "low"]
    rendering = "getComputedStyle(document.querySelector('img.pixels')).imageRendering"
    assert browser.run(rendering) == "pixelated"
    assert browser.run("document.querySelector('.at-right bdi').textContent") == "low (its pixels)"


def test_pictures_can_be_sorted(browser, page):
    browser.open(page, WIDE)
    long = "c/long_name_of_a_picture_0001"

    assert names(browser) == [long, "b", "a"]
    choose(browser, "order", "best")
    assert names(browser) == ["a", "b", long]
    choose(browser, "metric", "PSNR")
    assert names(browser) == [long, "b", "a"]
    choose(browser, "model", "bicubic")
    assert names(browser) == ["b", "a", long]
    choose(browser, "order", "by name")
    assert names(browser) == ["a", "b", long]


def test_a_picture_can_be_made_larger(browser, page):
    browser.open(page, WIDE)
    before = box(browser, ".compare")[2]

    browser.run("document.querySelector('.larger').click()")

    assert box(browser, ".compare")[2] > 1.7 * before
    assert browser.run("document.documentElement.scrollWidth") == WIDE[0]
    assert browser.run("document.querySelector('.larger').ariaPressed") == "true"
    assert seen(browser, 0.2, 0.8) == ["bicubic", "mini"]


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_hostile_and_long_words_do_no_harm(browser, make_report, flat_pictures, tmp_path, size):
    payload = "<img src=x onerror='window.harmed=1'></script><script>window.harmed=1</script>"
    words = f"{payload}\u202e{'x' * 300} {'word ' * 200}"
    models = {f"mini{payload}": "mini", "bicubic": "bicubic", f"y{'z' * 200}": "mini"} | {
        f"model {index}": "mini" for index in range(5)
    }
    metrics = {name: [0.5, 0.25] for name in ("psnr", "psnr_y", "ssim", "lpips", "lr_psnr")}
    report = make_report(
        dict.fromkeys(models, metrics),
        names=[words, "other"],
        prompt=words,
        caption=payload,
        dataset=words,
        split=payload,
        failed={words: words},
        missing={words: words},
        protocol={words: words},
    )
    find = flat_pictures(report, COLOURS)
    path = tmp_path / "page.html"
    write_page(report, path, lambda kind, name: find(models.get(kind, kind), name))

    browser.open(path, size)

    choose(browser, "left", "model 1")
    assert seen(browser, 0.2, 0.8) == ["mini", "mini"]
    assert browser.run("window.harmed") is None
    assert browser.run("document.documentElement.scrollWidth") == size[0]
    assert browser.run("document.querySelector('h1').textContent") == words.replace(
        "\u202e", "\\u202e"
    )
    assert browser.complaints() == []


def test_a_page_of_one_model_and_one_picture_works(browser, make_report, flat_pictures, tmp_path):
    report = make_report({"mini": {"psnr": [30.0]}}, scale=None)
    path = tmp_path / "page.html"
    kinds = {kind: COLOURS[kind] for kind in ("mini", "reference")}
    write_page(report, path, flat_pictures(report, kinds))

    browser.open(path, NARROW)

    assert seen(browser, 0.2, 0.8) == ["reference", "mini"]
    browser.run("document.querySelector('.swap').click()")
    assert seen(browser, 0.2, 0.8) == ["mini", "reference"]
    assert browser.complaints() == []


def test_a_page_without_pictures_works(browser, make_report, tmp_path):
    path = tmp_path / "page.html"
    write_page(make_report(SCORES), path, lambda kind, name: tmp_path / "none.png")

    browser.open(path, NARROW)

    assert browser.complaints() == []
    assert browser.run("document.querySelectorAll('svg').length") == 2
