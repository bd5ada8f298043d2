"""The pairs that a benchmark fuses: data sets, each under its scenarios."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from inspect import signature
from itertools import islice
from typing import Any

from fusion_lightning.batch import FusionBatch
from fusion_lightning.commands.benchmark.store import check_names, file_digest
from fusion_lightning.configuration import read_data
from fusion_lightning.datamodules import FusionData
from fusion_lightning.degradations import scenario as find_scenario
from fusion_lightning.errors import UserError, nearest

Scenarios = list[str] | dict[str, dict[str, str]]


class BenchmarkData:
    """The data sets, each under its scenarios."""

    def __init__(self, data: Mapping[str, Any], scenarios: Scenarios, seed: int, limit: int | None) -> None:
        self.limit = limit
        self._arguments: dict[tuple[str, str], dict[str, Any]] = {}
        self._modules: dict[tuple[str, str], FusionData] = {}
        self._digests: dict[tuple[str, ...], str] = {}
        check_names("data", data)
        own: Scenarios
        for name, given in data.items():
            entry: dict[str, Any] = {"config": given} if isinstance(given, str) else dict(given)
            if "config" not in entry:
                raise UserError(f"data set {name!r} must say its `config`, a fragment of configs/data, but got {given}")
            fragment = read_data(entry.pop("config"))
            own = entry.pop("scenarios", [] if fragment.get("scenarios") == [] else scenarios)
            asked = {one: [one] for one in own} if isinstance(own, list) else {one: {one: own[one]} for one in own}
            if asked:
                check_names("scenarios", asked)
            fixed = {"batch_size": 1, "num_workers": 0, "crop_size": None, "quotas": None, "seed": seed}
            for scenario, value in (asked or {"delivered": []}).items():
                self._arguments[name, scenario] = {**fragment, **entry, **fixed, "scenarios": value}
        for key, arguments in self._arguments.items():
            self._modules[key] = self._open(key[0], arguments)

    def recipes(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Data set, scenario, and what decides its pairs."""
        for (name, scenario), arguments in self._arguments.items():
            effects = arguments["scenarios"]
            chosen = find_scenario(effects[0] if isinstance(effects, list) else effects[scenario]) if effects else None
            parts = [repr(chosen.a), repr(chosen.b)] if chosen else []
            count = self.count(name, scenario)
            images = self._digest(tuple(self._modules[name, scenario].files("test")))
            yield name, scenario, {"data": arguments, "effects": parts, "pairs": count, "images": images}

    def batches(self, name: str, scenario: str) -> Iterator[FusionBatch]:
        """The test pairs, one by one."""
        return islice(iter(self._modules[name, scenario].test_dataloader()), self.limit)

    def count(self, name: str, scenario: str) -> int:
        """How many pairs there are."""
        length = len(self._modules[name, scenario].test_dataloader())
        return length if self.limit is None else min(length, self.limit)

    def _digest(self, files: tuple[str, ...]) -> str:
        """Of what is in the files of a data set; its scenarios share them."""
        if files not in self._digests:
            lines = "".join(f"{path} {file_digest(path)}\n" for path in files)
            self._digests[files] = hashlib.sha256(lines.encode()).hexdigest()
        return self._digests[files]

    @staticmethod
    def _open(name: str, arguments: dict[str, Any]) -> FusionData:
        known = list(signature(FusionData).parameters)
        if unknown := [option for option in arguments if option not in known]:
            raise UserError(f"data set {name!r}: there is no option {unknown[0]!r}; {nearest(unknown[0], known)}")
        try:
            module = FusionData(**arguments)
        except TypeError as error:
            raise UserError(f"data set {name!r}: {error}") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which split is tested is said in the report
            module.setup("test")
        if not len(module.test_dataloader()):
            raise UserError(f"data set {name!r} has no pairs to test")
        return module
