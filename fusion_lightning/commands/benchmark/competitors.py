"""The methods that a benchmark compares: where they come from, and where they take part."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import torch

from fusion_lightning.commands.benchmark.measure import Fuser, PublishedImages
from fusion_lightning.commands.benchmark.store import check_names, digests
from fusion_lightning.errors import UserError
from fusion_lightning.methods import FusionMethod, Specification, build_method, find_method, look_up
from fusion_lightning.methods.loading import Arguments
from fusion_lightning.text import printable


class MethodEntry(TypedDict, total=False):
    """A method of a benchmark, and where it takes part; everywhere if that is not said."""

    class_path: str
    init_args: Arguments
    checkpoint: str
    folder: str
    data: list[str]
    scenarios: list[str]


@dataclass(frozen=True)
class Competitor:
    """A method, or published images, and where it takes part; everywhere if that is None."""

    name: str
    specification: str | MethodEntry
    data: Sequence[str] | None
    scenarios: Sequence[str] | None

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides its results."""
        return {"method": self.specification, "files": digests(self.specification)}

    def takes_part(self, data: str, scenario: str) -> bool:
        """Whether it is tried on a data set under a scenario."""
        return (self.data is None or data in self.data) and (self.scenarios is None or scenario in self.scenarios)

    def build(self, device: torch.device) -> Fuser:
        """What fuses, on a device."""
        if not isinstance(self.specification, str) and "folder" in self.specification:
            return PublishedImages(self.specification["folder"])
        method: FusionMethod = build_method(cast(Specification, self.specification)).to(device)
        method.setup("test")
        return method


def with_weights(methods: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The methods with their `weights` looked up in a folder, at any depth; without those whose file is not there."""

    def look_up(specification: Any) -> Any:
        if not isinstance(specification, Mapping):
            return specification
        return {
            key: str(folder / value) if key == "weights" and isinstance(value, str) else look_up(value)
            for key, value in specification.items()
        }

    def missing(specification: Any) -> Iterator[str]:
        for key, value in specification.items() if isinstance(specification, Mapping) else ():
            if key == "weights" and isinstance(value, str) and not Path(value).is_file():
                yield value
            yield from missing(value)

    found = {}
    for name, specification in methods.items():
        complete = look_up(specification)
        if (path := next(missing(complete), None)) is None:
            found[name] = complete
        else:
            print(printable(f"{name} is left out: there is no {path}"))
    return found


def find_competitors(methods: Mapping[str, str | MethodEntry]) -> list[Competitor]:
    """The methods of a benchmark; their modules are imported.

    Raises:
        UserError: If an entry says too little or too much, names no method, or two names are too much alike.
    """
    found = []
    for name, given in methods.items():
        if isinstance(given, str):
            _import_class(name, given)
            found.append(Competitor(name, given, None, None))
            continue
        what = cast(MethodEntry, {key: value for key, value in given.items() if key not in ("data", "scenarios")})
        if set(what) not in ({"folder"}, {"checkpoint"}) and not {"class_path"} <= set(what) <= {
            "class_path",
            "init_args",
        }:
            raise UserError(f"method {name!r} must have a `folder`, a `checkpoint` or a `class_path`, but got {given}")
        _import_class(name, what.get("class_path", ""))
        scenarios = given.get("scenarios", ["clean"] if "folder" in what else None)
        found.append(Competitor(name, what.get("checkpoint", what), given.get("data"), scenarios))
    check_names("methods", methods)
    for one in found:
        _check_named(one)
    return found


def _check_named(competitor: Competitor) -> None:
    """Refuse what names no method before anything is measured."""
    what = competitor.specification
    if not isinstance(what, str) and "folder" in what:
        return
    try:
        named = look_up(cast(Specification, what))
    except UserError as error:
        raise UserError(f"method {competitor.name!r}: {error}") from error
    if isinstance(named, str) and not Path(named).is_file():
        raise UserError(f"method {competitor.name!r}: there is no checkpoint {named}: check the path")


def _import_class(name: str, path: str) -> None:
    """Import the module of a class that the configuration names by its full path, as `fit` does."""
    module = path.rpartition(".")[0]
    if not module or path.endswith(".ckpt") or not path.replace(".", "").isidentifier() or find_method(path):
        return
    try:
        importlib.import_module(module)
    except Exception as error:
        raise UserError(f"method {name!r}: {module} cannot be imported ({type(error).__name__}: {error})") from error
    if find_method(path) is None:
        raise UserError(f"method {name!r}: {path} is no FusionMethod, which it has to be")
