"""What is found in the images of a data source."""

from __future__ import annotations

from typing import Any

from pacl.data.inspection import Item, inspect_all


def test_looks_never_runs_far_ahead() -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield Item("nowhere.jpg", [])

    found = inspect_all(endless(), 1)
    image, look = next(found)
    assert (image.name, look.problem) == ("nowhere.jpg", "missing")
    assert taken < 200
    found.close()  # type: ignore[attr-defined]
