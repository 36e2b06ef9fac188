import torch

from eval.memory import peak_memory


def test_peak_memory_is_of_this_process_and_never_falls():
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(50_000_000)  # 200 MB
    after = peak_memory(torch.device("cpu"))
    assert 50 * 2**20 < before <= after < 2**40
    del held
    assert peak_memory(torch.device("cpu")) == after
