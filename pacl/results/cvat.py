"""The segmentation of many images in CVAT's own format, "CVAT for images 1.1": one XML file.

https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/ and https://docs.cvat.ai/docs/getting_started/xml_format/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from pacl.files import atomic_write
from pacl.results.coco import label_polygons
from pacl.results.palette import palette
from pacl.results.result import ImageResult
from pacl.results.run_file import WRITER, Run, RunFile, unique

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class CvatDataset(RunFile[Element]):
    """``annotations.xml``, which a task of CVAT with the same images takes as "CVAT 1.1".

    Each connected part of a label is a polygon; holes are joined to the outline, see `pacl.results.coco.polygons`.
    ``results`` of an image is the name of its record.
    """

    name: ClassVar[str] = "annotations.xml"

    def read(self, content: bytes) -> tuple[list[str], dict[str, Element]]:
        """See `RunFile.read`."""
        root = ElementTree.fromstring(content)
        if root.findtext("meta/task/owner/username") != WRITER:
            raise ValueError
        ElementTree.indent(root)  # raises RecursionError now, not in `save`, if elements are nested without end
        classes = [label.findtext("name", "") for label in root.iterfind("meta/task/labels/label")]
        return classes, unique((image.attrib["name"], image) for image in root.iterfind("image"))

    def classes_of(self, run: Run, labels: Sequence[str]) -> list[str]:
        """See `RunFile.classes_of`."""
        return [_xml_text(label) for label in labels]

    def text(self, name: str) -> str:
        """See `RunFile.text`."""
        return _xml_text(super().text(name))

    def owner(self, key: str) -> str | None:
        """See `RunFile.owner`."""
        return self.entries[key].get("results")

    def entry(self, item: ImageResult, place: str, record: dict[str, Any]) -> Element:
        """See `RunFile.entry`."""
        size = {"width": str(record["width"]), "height": str(record["height"])}
        image = Element("image", {"id": "", "name": _xml_text(place), **size, "results": self.text(item.name)})
        for label, rings in zip(self.classes, label_polygons(item.found.index, len(self.classes)), strict=True):
            for ring in rings:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring)
                SubElement(image, "polygon", label=label, source="auto", occluded="0", points=points, z_order="0")
        return image

    def save(self) -> None:
        """See `RunFile.save`."""
        root = Element("annotations")
        SubElement(root, "version").text = "1.1"
        task = SubElement(SubElement(root, "meta"), "task")
        SubElement(task, "size").text = str(len(self.entries))
        SubElement(task, "mode").text = "annotation"
        labels = SubElement(task, "labels")
        for name, colour in zip(self.classes, palette(len(self.classes))[1:], strict=True):
            label = SubElement(labels, "label")
            SubElement(label, "name").text = name
            SubElement(label, "color").text = f"#{bytes(colour).hex()}"
            SubElement(label, "type").text = "any"
            SubElement(label, "attributes")
        SubElement(SubElement(task, "owner"), "username").text = WRITER
        for number, name in enumerate(sorted(self.entries)):  # a task's order: CVAT goes by it where it lacks a name
            self.entries[name].set("id", str(number))
            root.append(self.entries[name])
        ElementTree.indent(root)
        content = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(content + b"\n")


def _xml_text(text: str) -> str:
    """Characters that XML does not allow as escapes."""
    return _NOT_IN_XML.sub(lambda letter: ascii(letter[0])[1:-1], text)
