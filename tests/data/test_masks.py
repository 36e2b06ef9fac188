import struct
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from pacl.data.mask_palette import read_palette
from pacl.data.masks import IGNORED, MaskFolder, read_colours, read_mask
from pacl.errors import ArgumentError, UserError
from pacl.image_folders import spread
from pacl.metrics.segmentation import count_areas, scores
from tests.paths import SHARED


def save(path: Path, values: object, mode: str = "L", **options: object) -> Path:
    """Write [H, W] values as a PNG of that mode; a palette one gets colours that have nothing to do with them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.array(values)
    image = Image.fromarray(array.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette(bytes(reversed(range(256))) * 3)
    image.save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> MaskFolder:
    """Three pictures of 4 x 3 pixels, one of them in a folder below; four classes, 255 ignored."""
    (tmp_path / "names.txt").write_text("background\na cat;kitten\na dog=dog\n# a comment\ngrass\n")
    for i, name in enumerate(("b", "a", "more/c")):
        save(tmp_path / f"images/{name}.png", np.full((3, 4), 50 * i))
        save(tmp_path / f"masks/{name}.png", [[0, 1, 2, 3], [i, i, i, i], [255, 255, 3, 3]], "P")
    return MaskFolder(str(tmp_path / "images"), str(tmp_path / "masks"), str(tmp_path / "names.txt"))


# ---------------------------------------------------------------- what is in a folder


def test_items_in_order(folder):
    assert [label.name for label in folder.labels] == ["background", "a cat", "dog", "grass"]
    assert len(folder) == 3
    assert [item.name for item in folder] == ["a", "b", "more/c"]
    first = folder[0]
    assert first.path == Path(folder.images, "a.png")
    assert first.image().shape == (3, 4, 3)
    assert first.mask.tolist() == [[0, 1, 2, 3], [1, 1, 1, 1], [IGNORED, IGNORED, 3, 3]]


def test_a_value_is_its_line_and_the_offset(folder):
    """With an offset of 1 the value 1 is the first line."""
    shifted = replace(folder, offset=1, ignore=(0, 255))
    assert shifted[0].mask.tolist() == [[IGNORED, 0, 1, 2], [0, 0, 0, 0], [IGNORED, IGNORED, 2, 2]]


def test_ignored_values_need_no_name_and_win_over_one(folder):
    assert (replace(folder, ignore=(3, 255))[0].mask == IGNORED).sum() == 5
    with pytest.raises(UserError, match=r"a\.png .*255.*names\.txt.* 0 to 3"):
        replace(folder, ignore=())[0]
    with pytest.raises(UserError, match=r"value 0.* 1 to 4"):
        replace(folder, offset=1)[0]


def test_only_chooses_and_orders(folder, tmp_path):
    (tmp_path / "val.txt").write_text("more/c\r\n\na\n")
    some = replace(folder, only=str(tmp_path / "val.txt"))
    assert [item.name for item in some] == ["more/c", "a"]
    assert [item.name for item in replace(some, limit=1)] == ["more/c"]
    assert [item.name for item in replace(folder, limit=2)] == ["a", "b"]
    assert len(replace(folder, limit=99)) == 3


def test_a_list_may_have_the_endings(folder, tmp_path):
    files = [path.relative_to(folder.images).as_posix() for _, path, _ in folder.files]
    (tmp_path / "val.txt").write_text("\n".join([files[2], files[0].rpartition(".")[0], "lost.jpg"]))
    some = replace(folder, only=str(tmp_path / "val.txt"), partial=True)
    assert [path for _, path, _ in some.files] == [folder.files[2][1], folder.files[0][1]]
    with pytest.raises(UserError, match=r"1 image .*lost\.jpg"):
        len(replace(some, partial=False))


@pytest.mark.parametrize(("count", "limit"), [(250, 24), (10, 3), (5, 4), (3, 3), (3, 9), (7, None), (4, 1)])
def test_a_limited_number_is_evenly_spread(count: int, limit: int | None) -> None:
    chosen = list(spread(range(count), limit))
    assert len(chosen) == min(count, limit or count)
    steps = {after - before for before, after in pairwise(chosen)}
    assert max(steps, default=0) - min(steps, default=0) <= 1
    assert chosen[0] == 0
    assert count - chosen[-1] <= max(steps, default=count) + 1


def test_endings_tell_pictures_from_masks(tmp_path):
    """Cityscapes' layout, in one folder."""
    (tmp_path / "names.txt").write_text("road\nsky\n")
    for name in ("bonn/bonn_0", "ulm/ulm_0"):
        save(tmp_path / f"{name}_leftImg8bit.png", [[9, 9]])
        save(tmp_path / f"{name}_gtFine_labelTrainIds.png", [[0, 1]])
        save(tmp_path / f"{name}_gtFine_color.png", [[7, 7]])
    found = MaskFolder(
        str(tmp_path),
        str(tmp_path),
        str(tmp_path / "names.txt"),
        image_ending="_leftImg8bit.png",
        mask_ending="_gtFine_labelTrainIds.png",
    )
    assert [item.name for item in found] == ["bonn/bonn_0", "ulm/ulm_0"]
    assert found[1].mask.tolist() == [[0, 1]]


def test_the_metric_takes_its_masks(folder):
    areas = sum(count_areas(np.zeros_like(item.mask), item.mask, len(folder.labels)) for item in folder)
    assert areas[2].sum() == 30  # of 36 pixels, 6 are ignored
    assert scores(areas)["pixel_accuracy"] == pytest.approx(7 / 30)
    assert scores(areas)["miou"] == pytest.approx(7 / 30 / 4)


def test_more_than_255_classes(folder, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(f"class{i}" for i in range(300)))
    for name in ("a", "b", "more/c"):
        save(tmp_path / f"masks/{name}.png", [[0, 255, 256, 299]] * 3, "I;16")
    many = replace(folder, ignore=(65535,))
    assert many[0].mask[0].tolist() == [0, 255, 256, 299]
    assert count_areas(many[0].mask, many[0].mask, 300)[0, 255] == 3


def test_yaml_configures_it(folder, tmp_path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(MaskFolder, "data")
    given = [f"--data.{name}={getattr(folder, name)}" for name in ("images", "masks", "names")]
    config = parser.parse_args([*given, "--data.ignore=[0, 255]", "--data.offset=1"])
    assert parser.instantiate_classes(config).data == replace(folder, offset=1, ignore=(0, 255))
    described = " ".join(parser.format_help().split())
    for words in ("file with one class per line", "ImageSets/Segmentation/val.txt", "mask value of the first class"):
        assert words in described


# ---------------------------------------------------------------- the values of a mask


@pytest.mark.parametrize(("mode", "top"), [("L", 255), ("P", 255), ("I;16", 65535)])
def test_values_are_read_as_they_are_stored(mode, top, tmp_path):
    values = np.linspace(0, top, 60).astype(int).reshape(6, 10)
    assert np.array_equal(read_mask(save(tmp_path / "m.png", values, mode)), values)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_palette(bits, tmp_path):
    values = np.arange(2**bits)[None]
    assert np.array_equal(read_mask(save(tmp_path / "m.png", values, "P", bits=bits)), values)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey_are_not_spread_over_255(bits, tmp_path):
    """Pillow writes no such files, but others do."""
    values = np.arange(8)[None] % 2**bits
    packed = np.packbits(np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., -bits:].reshape(1, -1))
    write_png(tmp_path / "m.png", 8, bits, 0, packed.tobytes())
    assert np.array_equal(read_mask(tmp_path / "m.png"), values)


def write_png(path: Path, width: int, bits: int, colours: int, row: bytes) -> None:
    """Write a PNG of one row, of a kind that Pillow does not write; ``colours`` is its colour type."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, 1, bits, colours, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize(("colours", "channels"), [(2, 3), (4, 2), (6, 4)], ids=["RGB", "LA", "RGBA"])
def test_several_channels_of_16_bits_are_refused(colours, channels, tmp_path):
    """Pillow keeps their upper 8 bits: all of these values would be 0."""
    values = np.repeat(np.arange(3, dtype=">u2"), channels)
    write_png(tmp_path / "m.png", 3, 16, colours, values.tobytes())
    for read in (read_mask, read_colours):
        with pytest.raises(UserError, match=r"m\.png has 16 bits"):
            read(tmp_path / "m.png")
    write_png(tmp_path / "m.png", 3, 8, colours, values.astype(np.uint8).tobytes())
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 1, 2]]


def test_grey_of_16_bits_has_no_colours(tmp_path):
    """Pillow would clip 300 to 255, which is a colour of its own."""
    with pytest.raises(UserError, match=r"m\.png .*16 bits"):
        read_colours(save(tmp_path / "m.png", [[0, 300]], "I;16"))


# ---------------------------------------------------------------- what is wrong with a folder


def test_masks_that_cannot_be_read(tmp_path):
    save(tmp_path / "rgb.png", [[[128, 64, 128], [0, 0, 0]]])
    save(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 9, (30, 40)))
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    Image.new("L", (4, 3)).save(tmp_path / "m.jpg")
    for name, message in (
        ("rgb.png", r"rgb\.png.*RGB"),
        ("cut.png", r"cut\.png"),
        ("m.jpg", r"m\.jpg"),
        ("none.png", r"none\.png"),
    ):
        with pytest.raises(UserError, match=message):
            read_mask(tmp_path / name)


def test_another_size_than_the_pictures(folder):
    save(Path(folder.masks, "a.png"), np.zeros((4, 3)))
    with pytest.raises(UserError, match=r"images/a\.png .*4 x 3.* 3 x 4"):
        folder[0].image()


def test_pictures_without_masks_are_counted_and_named(folder):
    for i in range(5):
        save(Path(folder.images, f"lost{i}.png"), [[0]])
    with pytest.raises(UserError, match=r"masks .*5.*lost0.png, lost1.png, lost2.png, ..."):
        len(folder)


def test_lists_that_name_what_is_not_there(folder, tmp_path):
    (tmp_path / "val.txt").write_text("a\nz\n")
    with pytest.raises(UserError, match=r"images .*1 .*z.*val.txt"):
        len(replace(folder, only=str(tmp_path / "val.txt")))
    Path(folder.masks, "a.png").unlink()
    (tmp_path / "val.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"masks .*1 .*a.png"):
        len(replace(folder, only=str(tmp_path / "val.txt")))


def test_a_part_of_a_data_set(folder, tmp_path):
    """What is listed but absent and what has no mask is left out, before the first few are taken."""
    for name in ("0", "lost"):
        save(Path(folder.images, f"{name}.png"), np.zeros((3, 4)))
    (tmp_path / "val.txt").write_text("lost\nz\nmore/c\nb\n")
    part = replace(folder, partial=True)
    assert [item.name for item in part] == ["a", "b", "more/c"]
    assert [item.name for item in replace(part, limit=1)] == ["a"]
    assert [item.name for item in replace(part, only=str(tmp_path / "val.txt"))] == ["more/c", "b"]
    with pytest.raises(UserError, match="masks"):
        len(replace(part, mask_ending="_no.png"))


def test_a_prompt_may_mean_two_classes(folder):
    """COCO-Object's published list has "bed" among the words of its background."""
    Path(folder.names).write_text("sky;bed=background\nbed\ndog\ngrass\n")
    assert [label.prompts for label in folder.labels][:2] == [("sky", "bed"), ("bed",)]
    assert len(list(folder)) == 3


def test_two_pictures_of_one_mask(folder):
    Image.new("L", (4, 3)).save(Path(folder.images, "a.jpg"))
    with pytest.raises(UserError, match=r"a\.jpg .*a\.png"):
        len(folder)
    assert len(replace(folder, image_ending=".png")) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "/no/such"}, "/no/such"),
        ({"masks": "/no/such"}, "/no/such"),
        ({"names": "/no/such"}, "/no/such"),
        ({"only": "/no/such"}, "/no/such"),
        ({"only": "/dev/null"}, "/dev/null"),
        ({"limit": 0}, "limit 0"),
        ({"offset": -1}, "offset -1"),
        ({"ignore": (-1,)}, r"ignore \[-1\]"),
        ({"image_ending": ".jpg"}, ".jpg"),
    ],
)
def test_settings_that_make_no_sense(folder, changes, message):
    wrong = replace(folder, **changes)  # making it reads nothing: the command line would bury the error
    with pytest.raises(UserError, match=message):
        _ = wrong[0].mask


# ---------------------------------------------------------------- official layouts


@pytest.mark.skipif(not SHARED.exists(), reason=f"no real photos at {SHARED}")
@pytest.mark.parametrize(
    ("names", "settings", "expected"),
    [
        ("voc20.txt", {"offset": 1, "ignore": (0, 255)}, {"aeroplane", "person"}),
        ("voc21.txt", {}, {"sky", "aeroplane", "person"}),  # line 0, the background, is "sky; wall; ..."
    ],
)
def test_pascal_voc(names, settings, expected):
    """2007_000032 shows aeroplanes and two people on an airfield."""
    root = SHARED / "data/VOCdevkit/VOC2012"
    voc = MaskFolder(
        str(root / "JPEGImages"),
        str(root / "SegmentationClass"),
        str(SHARED / "facts/names" / names),
        str(root / "ImageSets/Segmentation/val.txt"),
        **settings,
    )
    item = next(item for item in voc if item.name == "2007_000032")
    assert {voc.labels[i].prompts[0].split(" in ")[0] for i in np.unique(item.mask) if i >= 0} == expected
    assert item.image().shape == (*item.mask.shape, 3)


@pytest.mark.skipif(not SHARED.exists(), reason=f"no real photos at {SHARED}")
def test_ade20k():
    root = SHARED / "data/ADEChallengeData2016"
    ade = MaskFolder(
        str(root / "images/validation"),
        str(root / "annotations/validation"),
        str(SHARED / "facts/names/ade20k.txt"),
        offset=1,
        ignore=(0,),
    )
    item = next(item for item in ade if item.name == "ADE_val_00000002")
    names = {ade.labels[i].name for i in np.unique(item.mask) if i >= 0}
    assert names == {"wall", "building", "sky", "tree", "earth", "plant"}


def test_a_number_of_thousands_of_digits_is_no_colour(tmp_path):
    path = tmp_path / "palette.txt"
    path.write_text(f"road:{'9' * 5000},64,128\n")
    with pytest.raises(ArgumentError):
        read_palette(path)
