"""The file formats of exported graphs: how each is made from a module, and run again to check it.

To add a format, add a class with these methods and an entry in `FORMATS`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from pacl.errors import ArgumentError, UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

INSTALL = 'pip install "pacl[export]"'
ONNX_LIMIT = 2**31 - 1  # bytes, of a protobuf file
OPSET = 20  # the first in which GridSample's cubic mode is spelled as torch spells it


@dataclass(frozen=True)
class Sizes:
    """Axes of a graph's input that may have any size: axis -> (name, factor, largest number of factors)."""

    axes: Mapping[int, tuple[str, int, int]]


class Format(Protocol):
    """A file format."""

    suffix: str
    help: str
    smallest: int
    """Patches that a side of the image has at least: programs of torch.export tell 1 from all other sizes."""

    def check_installed(self) -> None:
        """Raise a `UserError` that says what to install, if anything is missing."""

    def export(
        self, graph: nn.Module, example: Tensor, names: tuple[str, Sequence[str]], sizes: Sizes, about: str
    ) -> bytes:
        """The content of a file: a graph, its example input, the names of input and outputs, and metadata as JSON."""

    def run(self, content: bytes, values: Tensor) -> list[Tensor]:
        """Run an exported graph on one input."""


class Pt2:
    """`torch.export.save`."""

    suffix = ".pt2"
    help = "a program of torch.export, for torch.export.load"
    smallest = 2

    def check_installed(self) -> None:
        pass

    def export(
        self, graph: nn.Module, example: Tensor, names: tuple[str, Sequence[str]], sizes: Sizes, about: str
    ) -> bytes:
        import torch

        file = io.BytesIO()
        program = exported_program(graph, example, sizes)
        with _quiet():
            torch.export.save(program, file, extra_files={"model.json": about})
        return file.getvalue()

    def run(self, content: bytes, values: Tensor) -> list[Tensor]:
        import torch

        return _listed(torch.export.load(io.BytesIO(content)).module()(values))


class TorchScript:
    """`torch.jit.trace`."""

    suffix = ".pt"
    help = "TorchScript, for torch.jit.load and libtorch"
    smallest = 1

    def check_installed(self) -> None:
        pass

    def export(
        self, graph: nn.Module, example: Tensor, names: tuple[str, Sequence[str]], sizes: Sizes, about: str
    ) -> bytes:
        import torch

        file = io.BytesIO()
        with _quiet(), torch.no_grad():
            traced = torch.jit.trace(graph, example, check_trace=False)
            torch.jit.save(traced, file, _extra_files={"model.json": about})
        return file.getvalue()

    def run(self, content: bytes, values: Tensor) -> list[Tensor]:
        import torch

        with _quiet(), torch.no_grad():
            return _listed(torch.jit.load(io.BytesIO(content))(values))


class Onnx:
    """`torch.onnx.export`, checked by onnx and run by onnxruntime."""

    suffix = ".onnx"
    help = "ONNX, for onnxruntime and many others"
    smallest = 1

    def check_installed(self) -> None:
        if version("torch").startswith("2.6."):  # its exporter cannot compute with sizes
            raise ArgumentError("to", "onnx", f"needs a newer PyTorch than {version('torch')}; use torchscript or pt2")
        for package in ("onnx", "onnxscript", "onnxruntime"):
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise UserError(f"ONNX needs {package}, which cannot be imported ({error}): {INSTALL}") from None

    def export(
        self, graph: nn.Module, example: Tensor, names: tuple[str, Sequence[str]], sizes: Sizes, about: str
    ) -> bytes:
        import onnx
        import torch

        size = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
        if size > ONNX_LIMIT:
            raise ArgumentError("to", "onnx", "a file of ONNX holds at most 2 GiB, this model is larger; use pt2")
        exported = exported_program(graph, example, sizes)
        _clamp_instead_of_relu6(exported)
        with _quiet():
            program = torch.onnx.export(
                exported,
                dynamo=True,
                input_names=[names[0]],
                output_names=list(names[1]),
                opset_version=OPSET,
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
        for part in (proto.graph, *proto.functions):
            for node in part.node:  # lines of the source code that each node comes from
                node.ClearField("metadata_props")
        onnx.helper.set_model_props(proto, {"pacl": about})
        onnx.checker.check_model(proto, full_check=True)
        return proto.SerializeToString()

    def run(self, content: bytes, values: Tensor) -> list[Tensor]:
        import onnxruntime
        import torch

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return [torch.from_numpy(each) for each in session.run(None, {session.get_inputs()[0].name: values.numpy()})]


FORMATS: dict[str, Format] = {"onnx": Onnx(), "torchscript": TorchScript(), "pt2": Pt2()}


def exported_program(graph: nn.Module, example: Tensor, sizes: Sizes) -> ExportedProgram:
    """`torch.export.export` with axes of any size, without the names of source files."""
    import torch

    axes: dict[int, Any] = {
        axis: torch.export.Dim(name, max=most) * factor if factor > 1 else torch.export.Dim(name, max=most)
        for axis, (name, factor, most) in sizes.axes.items()
    }
    with _quiet(), torch.no_grad():
        program = torch.export.export(graph, (example,), dynamic_shapes=(axes,), strict=False)
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", program.graph).nodes:
            node.meta.pop("stack_trace", None)
    return program


def _clamp_instead_of_relu6(program: ExportedProgram) -> None:
    """Write ReLU6 in place as a clamp, which ONNX has: torch takes a minute to decompose many of the former."""
    import torch

    for node in program.graph.nodes:
        if node.target is torch.ops.aten.relu6_.default and len(node.args[0].users) == 1:  # its input has no other use
            node.target, node.args = torch.ops.aten.clamp.default, (node.args[0], 0.0, 6.0)
    program.graph_module.recompile()


def _listed(outputs: Any) -> list[Tensor]:
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say to their own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
