import pacl  # noqa: F401  (tells a Python that lacks torch in one line)
