"""A web page that segments images by words: ``python -m pacl.app [options]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pacl.cli.messages import printing, run_verb, say
from pacl.cli.model import add_model, load
from pacl.cli.parser import new_parser
from pacl.cli.settings import add_settings, given_settings
from pacl.errors import UserError
from pacl.prompts import get_templates
from pacl.segmentation.settings import SegmenterSettings
from pacl.webapp.server import check_gradio, folder_of_its_own, free_port, serve

if TYPE_CHECKING:
    from pathlib import Path

    from gradio import Blocks

    from pacl.models.model import PACL
    from pacl.webapp.session import Limits

PROG = "pacl app"

USAGE = "pacl app [options]"

EXAMPLES = """\
examples:
  pacl app --model photos                          the page, at http://127.0.0.1:7860
  pacl app --model runs/mine --refine 10           a head of your own; other starting values
  pacl app --model photos --host 0.0.0.0           for all who reach this machine: there is no password

It runs until Ctrl-C. Images stay on this machine, in memory and in a temporary folder that is deleted at the end.

exit codes: 0 ended by SIGTERM; 130 ended by Ctrl-C; 2 stopped by a mistake named in one line
"""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORT = 7860


def build_parser() -> argparse.ArgumentParser:
    """The command's flags; those of `SegmenterSettings` are what the page starts with."""
    parser = new_parser(PROG, "Open a web page that segments images by words.", usage=USAGE, epilog=EXAMPLES)
    server = parser.add_argument_group("server")
    server.add_argument(
        "--host",
        default=LOOPBACK[0],
        help="address to listen on; 0.0.0.0 is every one of this machine (default: %(default)s, this machine only)",
    )
    server.add_argument("--port", metavar="N", type=int, default=PORT, help="0 is any free one (default: %(default)s)")
    server.add_argument(
        "--share",
        action="store_true",
        help="make the page public through a tunnel of gradio's makers: all who know its address can use it, and "
        "images pass through their servers",
    )
    add_model(parser.add_argument_group("model"))
    add_settings(parser.add_argument_group("how"), parser.add_argument_group("rarely needed"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything that needs no model, load the model, serve the page until the process is stopped.

    Raises:
        UserError: whatever is wrong with the flags or the model.
        KeyboardInterrupt: Ctrl-C.
    """
    args = build_parser().parse_args(argv)
    settings = SegmenterSettings(**given_settings(args))  # also those that act only when a slider is moved
    get_templates(settings.templates)
    check_gradio()
    port = free_port(args.host, args.port)
    say(PROG, f"loading {args.model} ...")
    model = load(args)
    with folder_of_its_own():
        page = build(model, settings, name=model.name or args.model)
        if args.host not in LOOPBACK:
            say(PROG, f"note: all who reach this machine at port {port} can use the page")
        serve(page, args.host, port, args.share, announce)
    return 0


def announce(address: str) -> None:
    """Print where the page is."""
    with printing():
        print(f"{address.rstrip('/')}  (Ctrl-C ends it)", flush=True)


def build(
    model: PACL | str | Path,
    settings: SegmenterSettings | None = None,
    *,
    name: str = "model",
    limits: Limits | None = None,
) -> Blocks:
    """The page as gradio's `Blocks`: launch it, mount it in an application of your own, or show it in a notebook.

    Its `launch` takes gradio's options, with safe defaults: this machine only, nothing shared, no analytics.

    Args:
        model: what segments, or its name for `pacl.load_model`.
        settings: what the page starts with.
        name: the model's name in the records that visitors download.
        limits: sizes of uploads, and how much is kept in memory.

    Raises:
        UserError: gradio is not installed, or a setting does not fit the model.
    """
    check_gradio()
    try:
        from pacl.webapp.page import Page
    except ImportError as error:
        raise UserError(f'gradio cannot be imported ({error}): pip install "pacl[app]"') from None
    from pacl.webapp.session import Sessions

    return Page(Sessions(model, settings, name=name, limits=limits))


if __name__ == "__main__":
    run_verb(PROG, main)
