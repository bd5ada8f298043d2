"""The `export` command: a method as a file that runs without this package."""

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import fusion_lightning
from fusion_lightning.batch import FusionBatch, SampleDegradation
from fusion_lightning.datamodules.synthetic.scenes import render_scene
from fusion_lightning.diffusion.sampling import given_noise
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.files import write_atomic
from fusion_lightning.imaging.color import rgb_to_luma
from fusion_lightning.imaging.convert import to_tensor
from fusion_lightning.methods import Estimator, FusionMethod, Registration, build_method

Format = Literal["onnx", "torchscript", "pt2"]
Runner = Callable[[Sequence[Tensor]], list[Tensor]]

_SUFFIX = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2"}
_SIZES = ((96, 128), (240, 208))
"""The sizes a file of free size is made with and checked at, multiples of 16."""
_ODD = (101, 75)
"""A size that a file of free size may refuse; then it takes multiples of 16."""
_TOLERANCE = 1e-4
_PARTS = ("fused", "restored_a", "restored_b", "weight")


def export(
    checkpoint: str,
    output: str,
    format: Format = "onnx",
    size: str | None = None,
    color: Literal["a", "b", "none"] = "b",
    check: bool = True,
    overwrite: bool = False,
) -> None:
    """Write a method as ONNX, TorchScript or a PyTorch program, and ``FILE.json`` beside it, which says how to call it.

    Inputs are ``source_a`` and ``source_b``, (1, 1 or 3, H, W) in [0, 1] of one size, and for methods that draw noise
    ``noise_0``, ``noise_1``, …, standard normal; outputs are ``fused`` and what else the method makes.

    Args:
        checkpoint: A ``.ckpt`` file written by ``fit``, or whatever else ``fuse --method`` takes.
        output: The file to write; ``.onnx``, ``.pt`` or ``.pt2`` is added if it is missing.
        format: ``onnx``, for ONNX Runtime (needs ``pip install .[export]``); ``torchscript``; or ``pt2``, for
            ``torch.export.load``.
        size: HEIGHTxWIDTH of the images, for methods whose steps depend on the size; without it any size will do, if
            the method allows.
        color: The source that has three channels.
        check: Run what was written at two sizes, or the one that was asked for, and compare it with the method itself:
            1e-4 at most.
        overwrite: Replace a file that exists.

    Raises:
        UserError: If the method cannot be exported like this, or what was written computes something else; nothing is
            written then.
    """
    check_choice("format", format, Format)
    path = Path(output).expanduser()
    path = path if path.suffix == _SUFFIX[format] else path.with_name(path.name + _SUFFIX[format])
    description = path.with_name(f"{path.name}.json")
    for one in (path, description):
        if one.exists() and not overwrite:
            raise UserError(f"{one} is already there: choose another --output, or add --overwrite")
    sizes = _SIZES if size is None else (_parse_size(size),)
    method = build_method(checkpoint)
    if isinstance(method, Estimator | Registration):
        raise UserError(
            f"--checkpoint {checkpoint} is a {type(method).__name__}, which makes no image: give a method that fuses "
            "or restores (`list methods`)"
        )
    program = _Program(method, color)
    inputs = program.example(sizes[0])
    unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    try:
        worst = _write_checked(program, inputs, unfinished, format, sizes, check, free=size is None)
        record = program.record(inputs, free=size is None)
        if size is None and check:
            record["sizes"] = "any" if _takes_odd_sizes(program, unfinished, format) else "multiples of 16"
        data = unfinished.read_bytes()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    record |= {"format": format, "sha256": hashlib.sha256(data).hexdigest(), "largest_difference": worst}
    write_atomic(description, json.dumps(record, indent=1) + "\n")
    compared = "" if worst is None else f", within {worst:.1e} of {record['method']} itself"
    print(f"{path} written ({len(data) / 2**20:.1f} MiB){compared}; {description} says how to call it")


class _Program(nn.Module):
    """A method as a function of tensors alone: its noise is given, and nothing is known of a degradation."""

    def __init__(self, method: FusionMethod, color: Literal["a", "b", "none"]) -> None:
        super().__init__()
        # PyTorch's group normalisation of channels-last maps loses three digits on the CPU: the check would find them
        self.method = method.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
        self.color = color
        self.outputs: list[str] = []

    def forward(self, source_a: Tensor, source_b: Tensor, *noise: Tensor) -> tuple[Tensor, ...]:
        """The method's images (1, C, H, W) in [0, 1], in the order of `outputs`."""
        with given_noise(noise):
            output = self.method(self._batch(source_a, source_b))
        self.outputs = [part for part in _PARTS if part in output]
        return tuple(output[part] for part in self.outputs)

    def example(self, size: tuple[int, int]) -> list[Tensor]:
        """Inputs of a size: a drawn scene, and as much noise as the method asks for."""
        scene = render_scene(1, max(*size, 64))
        a, b = (to_tensor(image)[None, :, : size[0], : size[1]] for image in (scene.infrared, scene.visible))
        b = b if self.color != "none" else rgb_to_luma(b)
        a, b = (b, a) if self.color == "a" else (a, b)
        with given_noise(None) as drawn, torch.no_grad():
            self.method(self._batch(a, b))
        return [a.contiguous(), b.contiguous(), *drawn]

    def record(self, inputs: Sequence[Tensor], free: bool) -> dict[str, Any]:
        """What a user of the file has to know."""

        def entry(name: str, tensor: Tensor, values: str) -> dict[str, Any]:
            height, width = ("height", "width") if free else tensor.shape[-2:]
            return {"name": name, "shape": [*tensor.shape[:2], height, width], "type": "float32", "values": values}

        images = [entry(name, one, "0..1") for name, one in zip(("source_a", "source_b"), inputs, strict=False)]
        noise = [entry(f"noise_{i}", one, "standard normal") for i, one in enumerate(inputs[2:])]
        return {
            "method": type(self.method).__name__,
            "inputs": images + noise,
            "outputs": self.outputs,
            "pixels": "8-bit levels / 255; more bits through the tone window that the model was trained with",
            "source_a": "the modality that carries intensity: infrared, PET, SPECT, CT",
            "source_b": "the modality that carries detail: visible, MRI",
            "color": {"source": self.color, "rule": self.method.color_rule},
            "licence": "MIT" + (", and that of the data the weights were trained on" if self._has_weights() else ""),
            "fusion_lightning": fusion_lightning.__version__,
            "torch": torch.__version__,
        }

    def _has_weights(self) -> bool:
        return next(self.method.parameters(), None) is not None

    @staticmethod
    def _batch(a: Tensor, b: Tensor) -> FusionBatch:
        degradation = [SampleDegradation(scenario="delivered", a=[], b=[])]
        return FusionBatch(source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=degradation, name=["exported"])


Way = Callable[[_Program, Sequence[Tensor], Path, bool], None]
"""Writes a program with these inputs into a file, for any size or for theirs."""


def _write_checked(
    program: _Program,
    inputs: Sequence[Tensor],
    path: Path,
    format: Format,
    sizes: Sequence[tuple[int, int]],
    check: bool,
    free: bool,
) -> float | None:
    """Write a file by the first way that gives one which computes the same; the largest difference if it is checked."""
    *others, last = _WAYS[format]
    for way in others:  # what comes out is only known when it is run
        try:
            _write(program, inputs, path, format, way, free)
            return _check(program, _load(path, format), sizes)
        except UserError:
            continue
    _write(program, inputs, path, format, last, free)
    return _check(program, _load(path, format), sizes) if check else None


def _write(program: _Program, inputs: Sequence[Tensor], path: Path, format: Format, way: Way, free: bool) -> None:
    name = type(program.method).__name__
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            way(program, inputs, path, free)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"--format {format} needs more packages ({error}): pip install '.[export]'") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        advice = "give --size HEIGHTxWIDTH, or try another --format" if free else "try another --format"
        raise UserError(f"{name} cannot be exported as {format} like this: {advice} ({reason})") from error


def _write_torchscript(program: _Program, inputs: Sequence[Tensor], path: Path, free: bool) -> None:
    _trace(program, inputs).save(str(path))


def _write_pt2(program: _Program, inputs: Sequence[Tensor], path: Path, free: bool) -> None:
    torch.export.save(_followed(program, inputs, free), str(path))


def _write_traced_onnx(program: _Program, inputs: Sequence[Tensor], path: Path, free: bool) -> None:
    """By what is computed for these inputs: a choice by the level of noise is made once, and every step is there."""
    _require_onnx()
    names = _names(inputs)
    torch.onnx.export(
        _trace(program, inputs),
        tuple(inputs),
        str(path),
        input_names=names,
        output_names=program.outputs,
        dynamic_axes={name: {2: "height", 3: "width"} for name in names} if free else None,
        opset_version=18,
        dynamo=False,
    )


def _write_followed_onnx(program: _Program, inputs: Sequence[Tensor], path: Path, free: bool) -> None:
    """By symbols for the sizes: slow for large networks, and right where steps depend on the size."""
    _require_onnx()
    exported = _followed(program, inputs, free)
    names = _names(inputs)
    written = torch.onnx.export(exported, input_names=names, output_names=program.outputs, dynamo=True, verbose=False)
    assert written is not None
    written.save(str(path), external_data=False)


_WAYS: dict[Format, tuple[Way, ...]] = {
    "onnx": (_write_traced_onnx, _write_followed_onnx),
    "torchscript": (_write_torchscript,),
    "pt2": (_write_pt2,),
}


def _trace(program: _Program, inputs: Sequence[Tensor]) -> Any:
    # the function, not the module: a LightningModule outside a Trainer cannot be looked through
    return torch.jit.trace(lambda *tensors: program(*tensors), tuple(inputs), check_trace=False)


def _followed(program: _Program, inputs: Sequence[Tensor], free: bool) -> torch.export.ExportedProgram:
    sides = [{2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO} for _ in inputs]
    shapes = (*sides[:2], *([tuple(sides[2:])] if sides[2:] else [])) if free else None
    return torch.export.export(program, tuple(inputs), dynamic_shapes=shapes)


def _names(inputs: Sequence[Tensor]) -> list[str]:
    return ["source_a", "source_b", *(f"noise_{i}" for i in range(len(inputs) - 2))]


def _require_onnx() -> None:
    import onnx  # noqa: F401 (an extra: its absence is reported)
    import onnxruntime  # noqa: F401

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)


def _load(path: Path, format: Format) -> Runner:
    if format == "torchscript":
        script = torch.jit.load(str(path))
        return lambda inputs: list(script(*inputs))
    if format == "pt2":
        module = torch.export.load(str(path)).module()
        return lambda inputs: list(module(*inputs))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is said once, by the check
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        # an input that nothing depends on is not in the file
        given = dict(zip(("source_a", "source_b", *(f"noise_{i}" for i in range(len(inputs)))), inputs, strict=False))
        return [torch.from_numpy(np.asarray(one)) for one in session.run(None, {n: given[n].numpy() for n in names})]

    return run


def _check(program: _Program, run: Runner, sizes: Sequence[tuple[int, int]]) -> float:
    """The largest difference between the method and what was written.

    Raises:
        UserError: If it is above the tolerance, or the file cannot be run at another size.
    """
    worst = 0.0
    name = type(program.method).__name__
    for size in sizes:
        inputs = program.example(size)
        with torch.no_grad():
            expected = program(*inputs)
        try:
            found = run(inputs)
            difference = max(float((x - y).abs().max()) for x, y in zip(found, expected, strict=True))
        except Exception as error:
            raise UserError(
                f"{name} depends on the size of its images: give --size HEIGHTxWIDTH (what was written fails at "
                f"{size[0]}x{size[1]})"
            ) from error
        if not difference <= _TOLERANCE:
            advice = "it depends on the size: give --size HEIGHTxWIDTH" if len(sizes) > 1 else "try another --format"
            raise UserError(
                f"what was written differs from {name} by {difference:.1e} at {size[0]}x{size[1]}: {advice}"
            )
        worst = max(worst, difference)
    return worst


def _takes_odd_sizes(program: _Program, path: Path, format: Format) -> bool:
    try:
        _check(program, _load(path, format), (_ODD,))
    except UserError:
        return False
    return True


def _parse_size(size: str) -> tuple[int, int]:
    height, _, width = size.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) >= 16 and int(width) >= 16):
        raise UserError(f"--size must be HEIGHTxWIDTH in pixels, at least 16x16, but got {size!r}")
    return int(height), int(width)
