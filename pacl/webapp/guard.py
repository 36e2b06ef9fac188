"""What the server of the page refuses, and what it tells browsers to refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob: ws: wss:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
"""Content-Security-Policy: the page loads nothing from other hosts."""

HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
FETCHING = ("/proxy=", "/file=http:", "/file=https:")
"""Routes by which gradio fetches from other hosts for a visitor; the page needs none."""


class Guard:
    """ASGI middleware around gradio's application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to routes that fetch for others, and add `HEADERS` to all else."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if any(part in scope["path"].lower() for part in FETCHING):
            await send({"type": "http.response.start", "status": 403, "headers": [*HEADERS]})
            await send({"type": "http.response.body", "body": b"not allowed"})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[Any] = list(message.get("headers", []))
                message = {**message, "headers": [*headers, *HEADERS]}
            await send(message)

        await self.app(scope, receive, send_with_headers)
