"""The table of scale: its arithmetic, and the bytes that a training step exchanges, counted."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.speed.floors import exchanged
from eval.speed.measure import Row
from eval.speed.scale import Machine, Work, line, main
from pacl import distributed
from pacl.errors import ArgumentError, UserError
from pacl.training.loss import contrastive_loss

MACHINE = Machine(per_machine=8, cores=10, read=1000.0, network=10.0, price=2.0)
MADE = {"device": "a GPU", "date": "2026-01-01", "runs": 1, "quick": False}
WORK = Work(image_kb=100.0, record_kb=1.0, epochs=2.0, batch=100, dim=512, parameters=1_000_000)


def rate(part: str, method: str, speed: float) -> Row:
    return Row(part, "a model, a batch", method, ms=[1.0], peak_mb=2000.0, figures={"images_per_second": speed})


@pytest.mark.parametrize(
    ("step", "decode", "work", "bottleneck", "hours"),
    [
        (100.0, 100.0, WORK, "device", 2e6 / 100 / 3600),
        (9000.0, 100.0, WORK, "decoding", 2e6 / 1000 / 3600),
        (1e6, 1e6, WORK, "reading", 2e6 * 0.1 / 1000 / 3600),
    ],
)
def test_the_slowest_of_what_happens_at_once_decides(
    step: float, decode: float, work: Work, bottleneck: str, hours: float
) -> None:
    cells = line("train", 10**6, 1, rate("train", "step", step), rate("data", "x", decode), MACHINE, work)
    assert cells[4] == bottleneck
    assert float(cells[3]) == pytest.approx(hours, rel=0.05, abs=0.01)
    assert float(cells[9]) == pytest.approx(2 * hours, abs=0.6)


def test_devices_share_the_work_until_the_network_is_the_slowest() -> None:
    fast = rate("train", "step", 1e6)
    slow_network = Machine(8, 10**6, 1e9, 0.001, 0.0)
    cells = line("train", 10**6, 64, fast, rate("data", "x", 1e6), slow_network, WORK)
    assert cells[4] == "network"
    assert cells[9] == "-"
    alone = line("train", 10**6, 1, rate("train", "step", 1.0), rate("data", "x", 1e6), slow_network, WORK)
    eight = line("train", 10**6, 8, rate("train", "step", 1.0), rate("data", "x", 1e6), slow_network, WORK)
    hours = [float(cells[3].replace(",", "")) for cells in (alone, eight)]
    assert hours[0] == pytest.approx(8 * hours[1], rel=0.01)


def test_a_step_exchanges_as_many_bytes_as_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with the same images and other texts, as far as the collectives of one of them go."""
    T, D, parameters = 5, 16, 3
    given: list[int] = []

    def all_reduce(x: torch.Tensor, op: Any = None) -> None:
        given.append(x.numel() * x.element_size())

    def all_gather(out: list[torch.Tensor], x: torch.Tensor) -> None:
        given.append(x.numel() * x.element_size())
        for i, each in enumerate(out):
            each.copy_(x)
            if x.dtype == torch.uint8:
                each[:, -1] += i  # (the digests, in the last columns, differ)

    monkeypatch.setattr(distributed, "rank_count", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    monkeypatch.setattr(distributed.dist, "all_gather", all_gather)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    texts = torch.randn(T, D, requires_grad=True)
    images = torch.randn(T, D, requires_grad=True)
    every, positives = distributed.gather_texts([f"text {i}" for i in range(T)], texts)
    contrastive_loss(images @ every.T, positives, over_ranks=True).backward()
    assert sum(given) + 4 * parameters == exchanged(2, T, D, parameters)
    assert exchanged(1, T, D, parameters) == 0


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        rate("train", "step", 500.0), rate("segment", "predict_batch", 100.0),
        rate("data", "random crop, reduced", 200.0), rate("data", "decode in full", 150.0),
    ]  # fmt: skip
    content = {"format": "pacl-speed", "version": 1, "made": MADE, "rows": [asdict(row) for row in rows]}
    (tmp_path / "speed.json").write_text(json.dumps(content))
    assert main([str(tmp_path / "speed.json"), "--price", "3"]) == 0
    table = [row for row in capsys.readouterr().out.splitlines() if row.startswith("|")]
    assert len(table) == 2 + 4 * 3 + 2 * 3
    (tmp_path / "other.json").write_text(json.dumps(content))
    (tmp_path / "quick.json").write_text(json.dumps({**content, "made": {**MADE, "quick": True}}))
    with pytest.raises(ArgumentError, match="json"):  # the same lines of another machine
        main([str(tmp_path / "speed.json"), str(tmp_path / "other.json")])
    with pytest.raises(ArgumentError, match="json"):
        main([str(tmp_path / "quick.json")])
    for wrong in (["--model", "other"], ["--batch", "0"], ["--read", "0"], ["--price", "nan", "--read", "inf"]):
        with pytest.raises(UserError):
            main([str(tmp_path / "speed.json"), *wrong])
    content["rows"] = content["rows"][:1]
    (tmp_path / "speed.json").write_text(json.dumps(content))
    with pytest.raises(UserError):
        main([str(tmp_path / "speed.json")])
