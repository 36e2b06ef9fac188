"""The web page: sessions without a web framework, what they show, the page, and its server."""
