from __future__ import annotations

import pytest
import yaml

from pacl.yaml_files import parse_yaml


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3", "x:\n  - {b: 1, 'b': 2}", "x: &x {a: 1, a: 1}\ny: *x"])
def test_a_key_that_is_there_twice_is_refused(text):
    for as_written in (False, True):
        with pytest.raises(yaml.YAMLError, match="twice"):
            parse_yaml(text, as_written=as_written)


def test_other_documents_have_the_values_of_pyyaml():
    text = "base: &base {a: 1, b: no}\nown: &own\n  <<: *base\n  a: 2.5\nlast: {<<: *own, a: 2024-10-05}\n2: [x]"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("[no, 1.5, 2024-10-05]", as_written=True) == ["no", "1.5", "2024-10-05"]
    with pytest.raises(yaml.YAMLError):
        parse_yaml("a: [")
