import sys

import pytest
import torch

from eval.common.memory import peak_memory, reset_peak_memory

CPU = torch.device("cpu")


def test_the_peak_is_of_this_process_and_outlives_what_made_it():
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    held = torch.ones(50_000_000)  # 200 MB
    after = peak_memory(CPU)
    assert 50 * 2**20 < before < after < 2**40
    assert after - before > 150 * 2**20
    del held
    assert peak_memory(CPU) > after - 2**23  # (the kernel counts in batches)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
def test_a_peak_can_be_forgotten():
    held = torch.ones(50_000_000)
    before = peak_memory(CPU)
    del held
    assert reset_peak_memory(CPU) < before - 150 * 2**20
    assert peak_memory(CPU) < before - 150 * 2**20
