"""The layout of the page, in gradio, and what happens when an input changes."""

from __future__ import annotations

import inspect
import logging
import math
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from pacl.errors import UserError
from pacl.models.head import shipped_folder
from pacl.models.towers.hub import first_line
from pacl.printing import escaped
from pacl.segmentation.encode import as_array
from pacl.webapp.guard import Guard
from pacl.webapp.results import (
    FILES,
    VIEWS,
    draw,
    error_text,
    label_at,
    message,
    plain,
    share_table,
    write_files,
)
from pacl.webapp.session import Choice, Sessions

LOGGER = logging.getLogger(__name__)
CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # the visitor's own: nothing is loaded
DOWNLOADS = {"mask": "Mask (PNG)", "json": "Record (JSON)", "coco": "COCO (JSON)", "overlay": "Overlay (PNG)"}
ALL = "All labels"
START = "Drop an image of at most {:.3g} MB, or try the example."
EXAMPLES = {
    "photos": ("a cat on a blanket", "cat\nblanket", {"prior": -0.3, "refine": 10}),
    "bundled": ("a drawn scene", "a blue fish\nan orange moon\na red boat\nsky\na purple mushroom\nsand", {}),
}
"""Shipped model whose demo image is the example -> its name, words, and settings that differ."""


class Page(gr.Blocks):
    """The page. Its `launch` has defaults of its own: this machine only, nothing shared, no file of the server read.

    Args:
        sessions: what answers.
    """

    def __init__(self, sessions: Sessions) -> None:
        keep = sessions.limits.kept_seconds
        super().__init__(
            title="pacl: segment an image by words",
            analytics_enabled=False,
            delete_cache=(max(1, keep // 4), keep),
        )
        self.sessions = sessions
        self.lay_out()
        self.queue(max_size=sessions.limits.waiting, default_concurrency_limit=1)

    def launch(self, *args: Any, **options: Any) -> Any:
        """`gradio.Blocks.launch` with safe defaults; every option of it may be given."""
        defaults = known(
            gr.Blocks.launch,
            server_name="127.0.0.1",
            share=False,
            allowed_paths=[],
            max_file_size=self.sessions.limits.upload_bytes,
            state_session_capacity=1000,
            enable_monitoring=False,
            mcp_server=False,
            ssr_mode=False,
            pwa=False,
            footer_links=[],
            run_history=False,
            app_kwargs={"middleware": [Middleware(Guard)], "openapi_url": None},
            **_style(),
        )
        return super().launch(*args, **defaults | options)

    async def preprocess_data(self, *args: Any, **options: Any) -> Any:
        """`gradio.Blocks.preprocess_data`; inputs that the page cannot have sent are one line in the log."""
        try:
            return await super().preprocess_data(*args, **options)
        except Exception as error:
            raise refused(first_line(error) or type(error).__name__) from error

    # --- Layout ---------------------------------------------------------------------------------------------------

    def lay_out(self) -> None:
        """Components and what they trigger."""
        first, limits = self.sessions.first_choice(), self.sessions.limits
        self.start = START.format(limits.upload_bytes / 2**20)
        shipped = self.sessions.name if self.sessions.name in EXAMPLES else "photos"
        self.example = shipped_folder(shipped) / "demo.jpg"
        title, self.example_words, self.example_settings = EXAMPLES[shipped]
        with self:
            gr.HTML(
                "<h1>Segment an image by words</h1><p>Name what you want to find: "
                "every pixel gets the word that fits it best.</p>",
                elem_id="head",
            )
            with gr.Row(elem_id="columns"):
                with gr.Column(elem_id="question", min_width=280):
                    self.file = gr.File(
                        label="Image",
                        file_types=["image"],
                        height=130,
                        elem_id="file",
                    )
                    self.words = gr.Textbox(
                        label="Words",
                        placeholder="cat\nblanket",
                        info="One a line, or with commas between them. cat;kitten=animal is two prompts of one label.",
                        lines=3,
                        max_lines=8,
                        max_length=limits.characters,
                        elem_id="words",
                    )
                    self.go = gr.Button("Segment", variant="primary", elem_id="go")
                    self.try_it = gr.Button(f"Example: {title}", icon=str(self.example), size="sm", elem_id="example")
                with gr.Column(elem_id="answer", min_width=280):
                    self.message = gr.HTML(message([self.start]), elem_id="message", padding=False)
                    self.image = gr.Image(
                        show_label=False,
                        interactive=False,
                        format="jpeg",
                        container=False,
                        elem_id="image",
                        buttons=[],
                    )
                with gr.Column(elem_id="settings", min_width=280):
                    self.threshold = gr.Slider(
                        0,
                        0.99,
                        first.threshold,
                        step=0.01,
                        label="Threshold",
                        info="Less probable pixels are background. 0 is off.",
                        elem_id="threshold",
                    )
                    self.prior = gr.Slider(
                        min(-1.0, first.prior),
                        max(1.0, first.prior),
                        first.prior,
                        step=0.05,
                        label="Prior",
                        info="Above 0: words that fit the whole image get ahead. Below: all get even chances.",
                        elem_id="prior",
                    )
                    self.refine = gr.Slider(
                        0,
                        max(20, first.refine),
                        first.refine,
                        step=1,
                        label="Refine",
                        info="Steps that move the edges to those of the image. 0 is off, 10 is usual.",
                        elem_id="refine",
                    )
                    self.stride = gr.Radio(
                        list(self.sessions.strides),
                        value=first.stride,
                        label="Stride",
                        info="Pixels between patches: less is finer and slower. A change encodes the image again.",
                        visible=len(self.sessions.strides) > 1,
                        elem_id="stride",
                    )
                with gr.Column(elem_id="details", min_width=280):
                    with gr.Row():
                        self.view = gr.Radio(list(VIEWS), value=VIEWS[0], label="View", elem_id="view", min_width=260)
                        self.label = gr.Radio(
                            [(ALL, 0)], value=0, label="Label (or click on the image)", elem_id="label", scale=2
                        )
                    self.table = gr.HTML("", elem_id="table", padding=False)
                    with gr.Row():
                        self.buttons = {
                            kind: gr.DownloadButton(
                                DOWNLOADS[kind], interactive=False, size="sm", min_width=120, elem_id=f"get-{kind}"
                            )
                            for kind in FILES
                        }
            self.filled = gr.State(None)  # threshold, prior, refine as the example set them; None where it did not
            self.connect()

    def connect(self) -> None:
        """What each component triggers. All computing shares one queue with one worker."""
        settings = [self.threshold, self.prior, self.refine]
        inputs = [self.file, self.words, *settings, self.stride, self.view, self.label]
        drawn = [self.image, self.label, self.table]
        buttons = list(self.buttons.values())
        outputs = [*drawn, self.message, *buttons]
        # Other programs cannot call these by name.
        # Of events that come while one is computed, the last is computed after it.
        quiet = {"concurrency_id": "model", "trigger_mode": "always_last", "api_visibility": "private"}
        quiet |= {"show_progress": "hidden"}
        loud = {**quiet, "show_progress": "full", "show_progress_on": self.image}

        asked = gr.on(
            [self.file.clear, self.go.click, self.words.submit, self.stride.input],
            self.answer,
            inputs,
            outputs,
            **loud,
        )
        moved = gr.on([each.change for each in settings], self.answer, inputs, outputs, **quiet)
        filled = self.try_it.click(self.fill_in, None, [self.file, self.words, *settings, self.filled], **quiet)
        kept = [*settings, self.filled]
        uploaded = self.file.upload(self.start_anew, kept, kept, **quiet)
        begun = [event.then(self.answer, inputs, outputs, **loud) for event in (filled, uploaded)]
        for event in (asked, moved, *begun):
            event.then(self.write, [self.file], [*buttons, self.message], **quiet)
        chosen = [self.view, self.label]
        gr.on([each.input for each in chosen], self.redraw, chosen, [self.image, self.table], **quiet)
        self.image.select(self.pick, chosen, drawn, **quiet)
        self.unload(self.leave)

    # --- What happens ---------------------------------------------------------------------------------------------

    def answer(
        self,
        path: str | None,
        words: str,
        threshold: float,
        prior: float,
        refine: float,
        stride: int,
        view: str,
        label: int,
        request: gr.Request,
    ) -> list[Any]:
        """The image, labels, table and message for the inputs; the files follow, see `write`."""
        if not all(
            isinstance(each, (int, float)) and math.isfinite(each) for each in (threshold, prior, refine, stride)
        ):
            raise refused("a setting is no number")
        key, off = str(request.session_hash), [gr.update(value=None, interactive=False) for _ in FILES]
        nothing = [gr.update(choices=[(ALL, 0)], value=0), ""]
        if not path:
            self.sessions.close(key)
            return [None, *nothing, message([self.start]), *off]
        before = self.sessions.last(key)
        chosen = before.labels[label - 1] if before and 0 < (label or 0) <= len(before.labels) else None
        try:
            answer = self.sessions.answer(key, path, words or "", Choice(threshold, prior, int(refine), int(stride)))
        except UserError as error:
            image = self.sessions.store.get(key)
            same = image is not None and image.path == Path(path)
            pixels = plain(image.pixels) if image is not None and same else None
            return [pixels, *nothing, message([error_text(error)], error=True), *off]
        found = answer.found
        if found is None:
            return [plain(answer.pixels), *nothing, message([*answer.notes, "Type what to look for."]), *off]
        label = found.id_of(chosen) if chosen in found.labels else 0
        image, choices, table = self._drawn(found, view, label)
        if before and before.labels == found.labels:
            choices = gr.skip()  # what the visitor chose meanwhile stays
        return [image, choices, table, message(answer.notes), *off]

    def write(self, path: str | None, request: gr.Request) -> list[Any]:
        """The files of the session's last answer, for the buttons; none where the next image is there already."""
        found = self.sessions.last(str(request.session_hash), path) if path else None
        if found is None or not path:
            return [gr.skip()] * (len(FILES) + 1)
        folder = Path(self.GRADIO_CACHE) / f"files-{secrets.token_hex(16)}"
        try:
            files = write_files(found, Path(path).name, self.sessions.name, folder)
        except UserError as error:
            return [*[gr.skip()] * len(FILES), message([error_text(error)], error=True)]
        return [*[gr.update(value=str(files[kind]), interactive=True) for kind in FILES], gr.skip()]

    def redraw(self, view: str, label: int, request: gr.Request) -> list[Any]:
        """The last answer in another view, or another label of it."""
        found = self.sessions.last(str(request.session_hash))
        if found is None:
            return [gr.skip()] * 2
        image, _, table = self._drawn(found, view, label if 0 <= (label or 0) <= len(found.labels) else 0)
        return [image, table]

    def pick(self, view: str, label: int, event: gr.SelectData, request: gr.Request) -> list[Any]:
        """Show the label at the point of a click alone, or all again."""
        found = self.sessions.last(str(request.session_hash))
        if found is None or view != VIEWS[0]:
            return [gr.skip()] * 3
        assert found.source is not None
        size = plain(as_array(found.source)).shape[:2]
        try:
            x, y = map(int, event.index)
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise refused("a click without a point") from None
        at = label_at(found, size, (x, y))
        return self._drawn(found, view, 0 if at == label else at)

    def _drawn(self, found: Any, view: str, label: int) -> list[Any]:
        choices = [(ALL, 0), *((name, i) for i, name in enumerate(found.labels, start=1))]
        return [draw(found, view, label), gr.update(choices=choices, value=label), share_table(found, label)]

    def fill_in(self) -> list[Any]:
        """The inputs of the example."""
        path = Path(self.GRADIO_CACHE) / f"example-{secrets.token_hex(16)}" / self.example.name
        path.parent.mkdir(parents=True)
        shutil.copyfile(self.example, path)  # gradio serves files of this folder only
        settings = list({**self.starting_values(), **self.example_settings}.values())
        return [str(path), self.example_words, *settings, settings]

    def start_anew(self, threshold: float, prior: float, refine: float, filled: list[float] | None) -> list[Any]:
        """The settings for the user's own image: those of the example go back to their defaults, unless moved."""
        given = [threshold, prior, refine]
        if filled is None:
            return [*given, None]
        settings = zip(given, filled, self.starting_values().values(), strict=True)
        return [*(start if now == before else now for now, before, start in settings), None]

    def starting_values(self) -> dict[str, float]:
        """What the page begins with."""
        first = self.sessions.first_choice()
        return {"threshold": first.threshold, "prior": first.prior, "refine": first.refine}

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page."""
        self.sessions.close(str(request.session_hash))


def refused(reason: str) -> gr.Error:
    """The error that a request gets which the page does not send; its reason is logged in one line."""
    LOGGER.warning("pacl app: a request is refused: %s", escaped(reason))
    return gr.Error(f"The request does not fit the page: {reason}", print_exception=False)


def _style() -> dict[str, Any]:
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="gray", font=FONTS, font_mono=("monospace",))
    return {"theme": theme, "css": CSS}


def known(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """The options that a function has in the installed version of gradio."""
    return {name: value for name, value in options.items() if name in inspect.signature(function).parameters}
