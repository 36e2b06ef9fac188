"""YAML as users write it: a key that is there twice is an error, as in the standard; PyYAML would keep the last one."""

from __future__ import annotations

from collections import Counter
from typing import Any


def parse_yaml(text: str, *, as_written: bool = False) -> Any:
    """The value of a YAML document.

    Args:
        text: the document.
        as_written: leave ``no``, ``1.5`` and ``2024-10-05`` the texts that they are.

    Raises:
        yaml.YAMLError: it is not YAML, or a mapping has a key twice.
        ValueError, RecursionError: it is not YAML, such as a date that does not exist, or nested too deep.
    """
    import yaml  # late: many commands never need it

    class Loader(yaml.BaseLoader if as_written else yaml.SafeLoader):  # type: ignore[misc]
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node: yaml.MappingNode = super().compose_mapping_node(anchor)
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            if twice := [key for key, count in keys.items() if count > 1]:
                raise yaml.YAMLError(f'"{twice[0]}" is there twice')
            return node

    return yaml.load(text, Loader=Loader)
