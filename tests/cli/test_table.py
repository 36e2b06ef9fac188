from __future__ import annotations

from typing import Any

from pacl.cli.table import record_line, record_table


def record(*labels: dict[str, Any], background: float = 0.0) -> dict[str, Any]:
    return {"labels": [{"id": i + 1, **label} for i, label in enumerate(labels)], "background": {"share": background}}


def test_the_largest_labels_come_first() -> None:
    image = record(
        {"label": "a dog", "share": 6 / 48, "score": 0.75, "box": [2, 1, 3, 2]},
        {"label": "grass", "share": 16 / 48, "score": 0.5, "box": [0, 4, 8, 2]},
        {"label": "a cat", "share": 0.0, "score": 0.0, "box": None},
        background=26 / 48,
    )
    assert [" ".join(row.plain.split()) for row in record_table(image)] == [
        "label share score box x, y, w, h",
        "■ grass 33.3% 0.500 0, 4, 8, 2",
        "■ a dog 12.5% 0.750 2, 1, 3, 2",
        "background 54.2%",
        "no pixels: a cat",
    ]
    assert record_line(image) == "grass 33.3%, a dog 12.5%"
    assert record_line(image, max_labels=1) == "grass 33.3%, ..."
    assert record_line(record()) == "nothing found"


def test_a_score_that_is_null() -> None:
    """A record of another tool, or of a score that was not finite, has null there."""
    (_, row) = record_table(record({"label": "a dog", "share": 0.5, "score": None, "box": None}))
    assert " ".join(row.plain.split()) == "■ a dog 50.0% - -"


def test_many_long_labels_with_control_characters() -> None:
    label = {"label": f"label \x1b[31m {'long ' * 20}", "share": 1 / 48, "score": 0.5, "box": [0, 0, 1, 1]}
    rows = [row.plain for row in record_table(record(*[label] * 48))]
    assert len(rows) == 22
    assert "28" in rows[-1]
    assert max(map(len, rows)) < 100
    assert all(letter.isprintable() for row in rows for letter in row)
