"""The page in a real browser, and its server against requests that no browser makes."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pacl.app import build
from pacl.models.loading import load_model
from pacl.segment import main as segment
from pacl.segmentation.settings import SegmenterSettings
from pacl.webapp.server import folder_of_its_own, free_port
from pacl.webapp.session import Limits
from tests.paths import ROOT

pytestmark = pytest.mark.slow
gradio = pytest.importorskip("gradio", reason="needs pacl[app]")

PHOTO = ROOT / "pacl" / "bundled" / "demo.jpg"
WORDS = "sky\nsand"
LIMITS = Limits(upload_bytes=1_000_000, pixels=1_000_000)


class Served:
    """The page, running, and what it was made of."""

    def __init__(self, page: Any, address: str, folder: Path) -> None:
        self.page, self.address, self.folder = page, address, folder

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(self.address + path, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def post(self, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        request = urllib.request.Request(self.address + path, body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with folder_of_its_own() as folder:
        # fp32: what `pacl segment` writes is compared with, wherever the tests run.
        page = build(load_model("bundled"), SegmenterSettings(precision="fp32"), name="bundled", limits=LIMITS)
        _, address, _ = page.launch(server_port=free_port("127.0.0.1", 0), prevent_thread_lock=True, quiet=True)
        yield Served(page, address.rstrip("/"), folder)
        page.close(verbose=False)


# --- Requests -------------------------------------------------------------------------------------


def test_no_file_of_the_server_can_be_read(served: Served) -> None:
    secret = ROOT / "pyproject.toml"
    for path in (str(secret), "pyproject.toml", "../../../../etc/passwd", f"{served.folder}/../..{secret}"):
        for route in ("/gradio_api/file=", "/file=", "/static/", "/assets/", "/gradio_api/download/"):
            for written in (path, path.replace("/", "%2f"), path.replace("..", "%2e%2e")):
                status, body = served.get(route + written)
                assert status in (403, 404, 405), route + written
                assert secret.read_bytes()[:40] not in body


@pytest.mark.parametrize("route", ["file=http://127.0.0.1/", "file=https://example.com/", "proxy=http://127.0.0.1/"])
def test_the_server_fetches_nothing_for_others(served: Served, route: str) -> None:
    assert served.get(f"/gradio_api/{route}")[0] == 403


def test_an_upload_stays_in_its_folder(served: Served) -> None:
    before = set(served.folder.parent.iterdir())
    for name in ("../../evil.jpg", "..%2f..%2fevil.jpg", "/tmp/evil.jpg"):
        (path,) = json.loads(upload(served, name, PHOTO.read_bytes())[1])
        assert Path(path).resolve().is_relative_to(served.folder)
    assert {path.name for path in set(served.folder.parent.iterdir()) - before}.isdisjoint({"evil.jpg"})


def test_an_upload_that_is_too_large_is_refused(served: Served) -> None:
    status, _ = upload(served, "large.jpg", bytes(LIMITS.upload_bytes + 1000))
    assert status == 413
    assert not list(served.folder.rglob("large.jpg"))


def upload(served: Served, name: str, data: bytes) -> tuple[int, bytes]:
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
    return served.post("/gradio_api/upload", body, f"multipart/form-data; boundary={mark}")


def ask(served: Served, path: str | None, **changes: Any) -> dict[str, Any]:
    """What the server says to a request for the page's answer about a file; no browser is needed to send one."""
    number = next(i for i, fn in served.page.fns.items() if fn.fn is not None and fn.fn.__name__ == "answer")
    file = path and {"path": path, "meta": {"_type": "gradio.FileData"}}
    stride = served.page.sessions.first_choice().stride
    inputs = {"words": WORDS, "threshold": 0, "prior": 0, "refine": 0, "stride": stride, "view": "Masks", "label": 0}
    data = [file, *(inputs | changes).values()]
    key = uuid.uuid4().hex
    body = {"data": data, "fn_index": number, "session_hash": key, "event_data": None, "trigger_id": None}
    status, said = served.post("/gradio_api/queue/join", json.dumps(body).encode(), "application/json")
    assert status == 200, said
    with urllib.request.urlopen(f"{served.address}/gradio_api/queue/data?session_hash={key}", timeout=120) as events:
        for line in events:
            if line.startswith(b"data:") and (event := json.loads(line[5:])).get("msg") == "process_completed":
                return event
    raise AssertionError("no answer")


def test_no_files_have_the_name_of_the_next_image(served: Served, tmp_path: Path) -> None:
    """It may be uploaded between an answer and the writing of its files."""
    visitor, sessions = SimpleNamespace(session_hash="visitor"), served.page.sessions
    sessions.answer("visitor", PHOTO, WORDS, sessions.first_choice())
    written = served.page.write(str(PHOTO), visitor)
    assert Path(written[0]["value"]).name.startswith("demo.")
    assert not any("value" in each for each in served.page.write(str(tmp_path / "next.png"), visitor))


def test_a_file_that_nobody_uploaded_is_not_segmented(served: Served) -> None:
    (path,) = json.loads(upload(served, "own.jpg", PHOTO.read_bytes())[1])
    assert ask(served, path)["success"]
    for other in (str(PHOTO), "/etc/passwd", f"{path}/../../../../..{PHOTO}", f"{served.address}/config"):
        assert not ask(served, other)["success"], other


def test_requests_that_the_page_does_not_send_are_one_line(
    served: Served, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = json.loads(upload(served, "own.jpg", PHOTO.read_bytes())[1])
    wrong: list[dict[str, Any]] = [{"threshold": 5}, {"threshold": None}, {"refine": "x"}, {"prior": [1]}]
    wrong += [{"stride": None}, {"stride": 3.5}, {"view": "x"}, {"label": 99}]
    for number, changes in enumerate([*wrong, {}], start=1):
        said = ask(served, path if changes else "/etc/passwd", **changes)
        assert not said["success"], changes
        assert said["output"]["error"], changes
        assert len(caplog.records) == number, changes
    assert "Traceback" not in "".join(capfd.readouterr())
    assert ask(served, path, label=None)["success"]


# --- Browser --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,1400"):
        options.add_argument(f"--{flag}")
    folder = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    found.downloads = folder
    yield found
    found.quit()


class Visitor:
    """A visit of the page: what a person does and sees there."""

    def __init__(self, browser: Any, served: Served) -> None:
        self.browser, self.page = browser, served.page
        browser.get(served.address)
        self.until(lambda: self.all("#file input[type=file]"))

    def until(self, condition: Callable[[], Any], seconds: float = 90) -> Any:
        from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except (StaleElementReferenceException, ElementClickInterceptedException):  # the page is being laid out
                pass
            time.sleep(0.1)
        raise AssertionError("it did not happen")

    def all(self, css: str) -> list[Any]:
        return self.browser.find_elements("css selector", css)

    def one(self, css: str) -> Any:
        return self.until(lambda: self.all(css))[0]

    def drop(self, path: Path) -> None:
        self.one("#file input[type=file]").send_keys(str(path))

    def type(self, words: str) -> None:
        box = self.one("#words textarea")
        box.clear()
        box.send_keys(words)
        self.until(lambda: self.one("#go").click() or True)

    def set(self, slider: str, value: float) -> None:
        """Type a number; again if a slow browser loses a sign that stands alone for a moment, which is no number."""
        number = self.one(f"#{slider} input[type=number]")

        def typed() -> bool:
            number.send_keys("\ue009a", "\ue000", str(value), "\ue004")  # Ctrl+A, which ends with the null key; Tab
            return float(number.get_attribute("value") or "nan") == value

        self.until(typed)

    def choose(self, group: str, text: str) -> None:
        labels = [each for each in self.all(f"#{group} label") if each.text.strip() == text]
        labels[0].click()

    def shares(self) -> dict[str, str]:
        rows = [[cell.text for cell in row.find_elements("css selector", "td")] for row in self.all("#table tbody tr")]
        return {row[0]: row[1] for row in rows}

    def image(self) -> str:
        found = self.all("#image img")
        return found[0].get_attribute("src") if found else ""

    def messages(self, kind: str = "note") -> list[str]:
        return [each.text for each in self.all(f"#message .{kind}")]

    def segmented(self) -> None:
        """Drop the photo, type the words, and wait for the answer."""
        self.drop(PHOTO)
        self.type(WORDS)
        self.until(lambda: set(self.shares()) == set(WORDS.split("\n")))

    def download(self, kind: str) -> Path:
        link = self.until(lambda: self.all(f"#get-{kind}:not([disabled])"))[0]
        before = set(self.browser.downloads.iterdir())
        link.click()

        def complete() -> list[Path]:
            new = set(self.browser.downloads.iterdir()) - before
            return [path for path in new if path.suffix in (".png", ".json")]

        return self.until(complete)[0]


@pytest.fixture
def visitor(browser: Any, served: Served) -> Visitor:
    return Visitor(browser, served)


def test_masks_of_words_and_of_one_label(visitor: Visitor) -> None:
    visitor.segmented()
    assert sum(float(share.rstrip("%")) for share in visitor.shares().values()) == pytest.approx(100, abs=0.2)
    every = visitor.image()
    visitor.choose("label", "sand")
    visitor.until(lambda: visitor.image() != every and len(visitor.all("#table tr.other")) == 1)
    alone = visitor.image()
    visitor.choose("view", "Heat map")
    visitor.until(lambda: visitor.image() not in (every, alone))
    visitor.choose("view", "Masks")
    visitor.choose("label", "All labels")
    visitor.until(lambda: visitor.image() == every and not visitor.all("#table tr.other"))
    visitor.one("#image img").click()
    visitor.until(lambda: visitor.image() != every and len(visitor.all("#table tr.other")) == 1)


def test_a_slider_changes_the_answer_and_nothing_is_encoded_again(visitor: Visitor) -> None:
    visitor.segmented()
    first = visitor.shares()
    (image,) = [each for each in visitor.page.sessions.store._images.values() if each.found is not None][-1:]
    encoded = dict(image.encoded)
    visitor.set("threshold", 0.9)
    visitor.until(lambda: "background" in visitor.shares())
    assert image.encoded == encoded
    visitor.one("#threshold button").click()  # back to where it began
    visitor.until(lambda: visitor.shares() == first)
    visitor.choose("stride", str(visitor.page.sessions.strides[1]))
    visitor.until(lambda: len(image.encoded) == 2 and visitor.shares() not in (first, {}))


def test_downloads_are_what_the_command_writes(
    visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor.segmented()
    visitor.set("prior", -0.3)
    visitor.set("refine", 5)
    shutil.copy(PHOTO, tmp_path)
    monkeypatch.chdir(tmp_path)
    flags = ["--prior", "-0.3", "--refine", "5", "--precision", "fp32", "--format", "overlay,mask,rle,coco"]
    assert segment(["demo.jpg", *WORDS.split("\n"), "--model", "bundled", *flags]) == 0
    expected = json.loads(Path("out/demo.json").read_text())
    shares = {each["label"]: f"{each['share']:.1%}" for each in expected["labels"]}
    visitor.until(lambda: visitor.shares() == shares)
    record = {}
    for _ in range(50):  # the files follow the answer
        record = json.loads(visitor.download("json").read_text())
        if record["settings"] == expected["settings"]:
            break
    assert "source" not in record  # folders of the server are nobody's business
    del record["files"], record["pixels"], expected["files"], expected["source"]
    assert record == expected
    for kind, name in {"mask": "demo.mask.png", "overlay": "demo.overlay.png", "coco": "annotations.json"}.items():
        assert visitor.download(kind).read_bytes() == (Path("out") / name).read_bytes(), kind


def test_mistakes_are_one_line_on_the_page(visitor: Visitor, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(PHOTO.read_bytes()[:300])
    visitor.drop(broken)
    (line,) = visitor.until(lambda: visitor.messages("error"))
    assert line.startswith("broken.jpg ")
    assert str(tmp_path) not in line
    visitor.one("#file button[aria-label]").click()
    visitor.until(lambda: not visitor.messages("error"))
    visitor.drop(PHOTO)
    visitor.type("sky, sky")
    visitor.until(lambda: len(visitor.messages("error")) == 1)
    assert visitor.all("#get-mask[disabled]")
    visitor.type("sky, <b>zyzzyva</b>")
    visitor.until(lambda: any("zyzzyva" in note for note in visitor.messages()))
    assert visitor.messages("error") == []
    assert not visitor.all("#columns b")


def test_the_example_needs_one_click(visitor: Visitor) -> None:
    visitor.one("#example").click()
    visitor.until(lambda: "sand" in visitor.shares())
    assert visitor.one("#words textarea").get_attribute("value").count("\n") == len(visitor.shares()) - 1


def test_an_image_of_ones_own_after_the_example_starts_anew_but_for_what_was_moved(visitor: Visitor) -> None:
    def sliders() -> dict[str, float]:
        numbers = {name: visitor.one(f"#{name} input[type=number]") for name in ("threshold", "prior", "refine")}
        return {name: float(number.get_attribute("value")) for name, number in numbers.items()}

    visitor.page.example_settings = {"prior": -0.3, "refine": 4}
    visitor.one("#example").click()
    visitor.until(lambda: "sand" in visitor.shares())
    assert sliders() == {"threshold": 0, "prior": -0.3, "refine": 4}
    visitor.set("refine", 5)
    visitor.one("#file button[aria-label]").click()
    visitor.until(lambda: not visitor.shares())
    visitor.drop(PHOTO)
    visitor.until(visitor.shares)
    assert sliders() == {"threshold": 0, "prior": 0, "refine": 5}


def test_the_page_asks_no_other_host(visitor: Visitor, served: Served) -> None:
    visitor.segmented()
    asked = set()
    for entry in visitor.browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            asked.add(event["params"]["request"]["url"])
    pages = {url for url in asked if not url.startswith(("data:", "blob:", "chrome", "about:"))}
    assert pages
    assert all(url.startswith(served.address) for url in pages), pages


def test_closing_the_page_forgets_the_image(visitor: Visitor) -> None:
    images = visitor.page.sessions.store._images  # also of requests that came without a page to close
    before = set(images)
    visitor.segmented()
    (own,) = set(images) - before
    visitor.browser.get("about:blank")
    visitor.until(lambda: own not in images)
