"""The floors: the tables of the page are those of the command."""

from __future__ import annotations

import pytest
import torch

from eval.speed.floors import aligned, main, padded, traffic, triton_multiply_adds
from pacl.errors import ArgumentError
from tests.paths import ROOT


def test_the_page_has_the_tables_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    tables = [part for part in capsys.readouterr().out.split("\n\n") if part.startswith("|")]
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    assert len(tables) == 3
    assert [table for table in tables if table.strip() not in page] == []


def test_traffic_counts_tensors() -> None:
    v, t, phi = torch.empty(3, 5, 7, dtype=torch.bfloat16), torch.empty(4, 7, dtype=torch.bfloat16), torch.empty(3, 4)
    assert traffic(3, 4, 5, 7, 2) == 2 * v.nbytes + v.nbytes + 2 * t.nbytes + 2 * phi.nbytes


def test_padding_adds_to_the_products_within_a_program_alone() -> None:
    assert triton_multiply_adds(2, 3, 8, 16, 32) - triton_multiply_adds(2, 3, 8, 16, 8) == 2 * 6 * (32 * 48 - 8 * 24)


@pytest.mark.parametrize("patches", [1, 31, 196, 256])
def test_the_kernel_pads_and_aligns_as_the_table_says(patches: int) -> None:
    kernel = pytest.importorskip("pacl.models.compatibility_triton", exc_type=ImportError)
    assert padded(patches) == kernel._block_p(patches)
    assert aligned(patches) == kernel._aligned(patches, torch.empty(0, dtype=torch.bfloat16))


@pytest.mark.parametrize("flag", ["--patches", "--width", "--batches", "--processes"])
def test_sizes_are_at_least_one(flag: str) -> None:
    with pytest.raises(ArgumentError):
        main([flag, "0"])
