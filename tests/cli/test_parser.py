"""What the commands' parser makes of words."""

from pathlib import Path
from typing import Any

import pytest

from eval.segmentation import run as segmentation
from pacl import bulk, classify, export, segment, similarity
from pacl.cli.parser import Once, check_unused, new_parser
from pacl.errors import ArgumentError, UserError


@pytest.mark.parametrize("number", ["-1", "-0.3", "-.5", "-1.", "-1e38", "-1E-3", "-2.5e+4", "-inf", "-nan", "-1_000"])
def test_negative_numbers_are_values(number: str) -> None:
    parser = new_parser("test", None)
    parser.add_argument("words", nargs="*")
    parser.add_argument_group("how").add_argument("--prior", type=float)
    args = parser.parse_intermixed_args(["image.png", "--prior", number, "a dog"])
    assert repr(args.prior) == repr(float(number))
    assert args.words == ["image.png", "a dog"]


def test_lists_of_negative_numbers_are_values() -> None:
    parser = new_parser("test", None)
    parser.add_argument("--scales")
    assert parser.parse_args(["--scales", "-1,2e3,-.5"]).scales == "-1,2e3,-.5"


def test_flags_without_effect_must_have_their_defaults() -> None:
    parser = new_parser("test", None)
    parser.add_argument("--names", nargs="*", default=["a"])
    parser.add_argument("--limit", type=int)
    check_unused(parser.parse_args(["--names", "a"]), parser, ["names", "limit"], "here")
    with pytest.raises(ArgumentError) as error:
        check_unused(parser.parse_args(["--names", "b", "c"]), parser, ["limit", "names"], "here")
    assert (error.value.argument, error.value.value) == ("names", "b c")


@pytest.mark.parametrize("word", ["-e5", "-1x", "-", "--1e3x", "-info"])
def test_other_words_with_a_dash_are_no_values(word: str) -> None:
    parser = new_parser("test", None)
    parser.add_argument("--prior", type=float)
    with pytest.raises(UserError):
        parser.parse_args(["--prior", word])


@pytest.mark.parametrize(
    ("main", "words", "named"),
    [
        (segment.main, ["a.png", "cat", "--background"], ["--background", "peak[:SHARE]", "entropy"]),
        (segment.main, ["a.png", "cat", "--threshold", "0.5"], ["--threshold", "--background threshold:0.5"]),
        (segment.main, ["a.png", "cat", "--entropy=1.5"], ["--entropy", "--background entropy:1.5"]),
        (segment.main, ["photos/*.jpg", "cat"], ["photos/*.jpg", "without quotes"]),
        (similarity.main, ["a.png", "cat"], ["a.png cat", "--images", "--texts"]),
        (segmentation.main, [], ["BENCHMARK", "voc20", "custom"]),
        (segmentation.main, ["voc2O", "--model", "bundled"], ["voc2O", "did you mean 'voc20'"]),
    ],
    ids=["no rule", "a threshold", "an entropy", "a quoted pattern", "no flags", "no benchmark", "a benchmark"],
)
def test_common_slips_name_what_was_meant(main: Any, words: list[str], named: list[str]) -> None:
    with pytest.raises(UserError) as error:
        main(words)
    assert all(name in str(error.value) for name in named), error.value


def test_results_of_files_do_not_go_to_standard_output() -> None:
    parser = new_parser("test", None)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--out", type=Path)
    for parse in (parser.parse_args, parser.parse_intermixed_args):
        assert parse(["--out", "./-/a"]).out == Path("-/a")
        with pytest.raises(ArgumentError):
            parse(["word", "--out", "-"])


def test_a_flag_of_several_values_is_given_once() -> None:
    parser = new_parser("test", None)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--format", action=Once)
    for _ in range(2):
        assert parser.parse_intermixed_args(["a", "--format", "coco", "b"]).format == "coco"
    for twice in (["--format", "coco", "--format", "yolo"], ["--format=coco", "a", "--format=coco,yolo"]):
        with pytest.raises(UserError):
            parser.parse_intermixed_args(twice)


@pytest.mark.parametrize("command", [segment, classify, bulk, export])
def test_a_second_file_of_classes_is_refused(command: Any) -> None:
    out = [] if command is classify else ["--out", "o"]
    command.build_parser().parse_intermixed_args(["a", *out, "--classes", "a"])
    with pytest.raises(UserError):
        command.build_parser().parse_intermixed_args(["a", *out, "--classes", "a", "--classes", "b"])
