"""Millions of strings in two arrays."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Strings:
    """An immutable list of strings that costs their bytes and eight more each.

    A list of Python strings costs some 60 bytes more each, and every worker process that reads one copies its page:
    counting the reference writes to it. Lone surrogates, as names of files that are not UTF-8 hold, stay as they are.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]  # negative ones, and IndexError
        start = self._ends[index - 1] if index else 0
        return self._bytes[start : self._ends[index]].tobytes().decode("utf-8", "surrogatepass")
