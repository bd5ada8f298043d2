"""Benchmark: methods on data sets under scenarios, as tables and pictures."""

import hashlib
import importlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from rich.console import Console
from rich.progress import Progress

import fusion_lightning
from fusion_lightning.batch import FusionBatch
from fusion_lightning.commands.benchmark.measure import Fuser, PublishedImages, measure
from fusion_lightning.commands.benchmark.report import picture_writer, report
from fusion_lightning.commands.benchmark.store import Trial, TrialStore, digests, file_digest, slug
from fusion_lightning.commands.devices import Precision, find_device, runs_in_bf16
from fusion_lightning.commands.evaluate import metric_names
from fusion_lightning.commands.tables import Format, print_table
from fusion_lightning.configuration import read_yaml, resolve_config_names
from fusion_lightning.datamodules import FusionData
from fusion_lightning.degradations import scenario as find_scenario
from fusion_lightning.errors import UserError
from fusion_lightning.methods import FusionMethod, Specification, build_method, find_method
from fusion_lightning.methods.loading import Arguments
from fusion_lightning.methods.vocabulary import spelled_out
from fusion_lightning.metrics import METRICS
from fusion_lightning.text import printable

_SOURCES = ("source_a", "source_b")

Scenarios = list[str] | dict[str, dict[str, str]]


class MethodEntry(TypedDict, total=False):
    """A method of a benchmark, and where it takes part; everywhere if that is not said."""

    class_path: str
    init_args: Arguments
    checkpoint: str
    folder: str
    data: list[str]
    scenarios: list[str]


def benchmark(
    methods: dict[str, str | MethodEntry],
    data: dict[str, str | Arguments],
    scenarios: Scenarios,
    output: str = "benchmark",
    metrics: str | list[str] = "MI,VIF,Qabf,Nabf,SSIM",
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "fp32",
    format: Format = "table",
    weights_folder: str | None = None,
) -> None:
    """Score methods on the test pairs of data sets, under one scenario after the other, and write tables and pictures.

    Every pair is degraded in the same way for all methods; a fusion is scored against the clean sources. Trials (one
    method, data set and scenario) are kept in ``OUTPUT/trials``: a run that was interrupted continues, and what was
    finished is measured anew only if something that decides it has changed. A method that fails is marked in the
    tables and tried again by the next run.

    Writes ``report.md`` and ``report.tex`` (scores with standard deviations, differences to the best with 95 %
    confidence intervals from paired bootstrap, wins, restored sources, costs), ``scores.csv`` (a row per image),
    ``sheets/SCENARIO.png`` (what the methods made of the first pairs) and ``quality_time.png`` (with matplotlib).

    Args:
        methods: Name -> a checkpoint (``PATH.ckpt``), a short name of ``fuse --method`` (``laplacian``), a class
            (``LaplacianPyramid``), a class with its arguments
            (``{class_path: …, init_args: {…}}``), or published images (``{folder: DIR}``, of the clean scenario unless
            ``scenarios`` says otherwise). With ``{checkpoint: PATH.ckpt}`` or any mapping, ``data: [NAME, …]`` and
            ``scenarios: [NAME, …]`` restrict where the method is tried.
        data: Name -> a fragment of ``configs/data`` (``synthetic.yaml``), or ``{config: FRAGMENT, root: DIR, …}`` with
            any argument of `FusionData`; ``scenarios`` there replaces the common ones, and an empty list takes the
            pairs as they were delivered.
        scenarios: Names or specifications of degradations; or a mapping from names to specifications of a and b.
        output: Folder for everything.
        metrics: Names separated by commas, or ``all``.
        limit: At most so many pairs of every data set.
        seed: Seed of the degradations.
        device: ``cpu``, ``cuda``, ``cuda:1`` …; ``auto`` takes a GPU when there is one.
        precision: Number type of the networks: ``fp32``, ``bf16``, or ``auto``, bf16 where the device multiplies it.
        format: How tables are printed: ``table`` for the terminal, ``markdown`` or ``latex``.
        weights_folder: Folder of published weight files, in which the methods' `weights` are looked up. A method whose
            file is not in it is left out, with a line.

    Raises:
        UserError: If a metric, a data set or a scenario cannot be used, or the output belongs to something else.
    """
    names = metric_names(metrics)
    place = find_device(device)
    bf16 = runs_in_bf16(precision, place)
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, but got {limit}")
    if weights_folder is not None:
        methods = _with_weights(methods, Path(weights_folder))
    competitors = _competitors(methods)
    pairs = _BenchmarkData(data, scenarios, seed, limit)
    _check_places(competitors, pairs)
    common = {"version": fusion_lightning.__version__, "metrics": names, "bf16": bf16, "device": _describe(place)}
    store = TrialStore(Path(output))
    trials = [
        Trial(pairs_name, scenario, competitor.name, _plain({**common, **competitor.recipe, **recipe}))
        for competitor in competitors
        for pairs_name, scenario, recipe in pairs.recipes()
        if competitor.takes_part(pairs_name, scenario)
    ]
    _measure(trials, {one.name: one for one in competitors}, pairs, store, names, place, bf16)
    for table in report(store.folder, trials, names, f"{_describe(place)}, seed {seed}"):
        print_table(table, format)
    failed = [trial for trial in trials if trial.failure is not None]
    for trial in failed:
        print(f"{trial.method} failed on {trial.data}, {trial.scenario}: {trial.failure}")
    print(f"tables, scores and pictures are in {store.folder}")
    if failed:
        one = failed[0]
        raise UserError(
            f"{len(failed)} of {len(trials)} trials failed, the first one {one.method} on {one.data}, {one.scenario}: "
            f"{one.failure}; the others are done, and the same command tries the failed ones again"
        )


def _measure(
    trials: list[Trial],
    competitors: Mapping[str, "_Competitor"],
    pairs: "_BenchmarkData",
    store: TrialStore,
    metrics: Sequence[str],
    device: torch.device,
    bf16: bool,
) -> None:
    """Fill in the trials, from earlier runs or by measuring."""
    scores = {name: METRICS[name]().to(device) for name in metrics}
    built: dict[str, Fuser] = {}  # one at a time: trials are in the order of the methods
    with Progress(console=Console(stderr=True), transient=True) as progress:
        counts = [pairs.count(trial.data, trial.scenario) for trial in trials]
        task = progress.add_task("measuring", total=sum(counts))

        def advancing(batches: Iterator[FusionBatch]) -> Iterator[FusionBatch]:
            for batch in batches:
                yield batch
                progress.advance(task)

        for index, trial in enumerate(trials):
            progress.update(task, completed=sum(counts[:index]))
            progress.update(task, description=f"{trial.method}: {trial.data}, {trial.scenario}")
            if (earlier := store.finished(trial)) is not None:
                trials[index] = earlier
                continue
            try:
                if trial.method not in built:
                    built = {trial.method: competitors[trial.method].build(device)}
                batches = advancing(pairs.batches(trial.data, trial.scenario))
                on_image = picture_writer(store.folder, trial)
                trial.images, trial.cost = measure(built[trial.method], batches, scores, device, bf16, on_image)
            except Exception as error:  # one method's mistake must not cost the others' results
                trial.failure = " ".join(f"{type(error).__name__}: {error}".removeprefix("UserError: ").split())
            store.save(trial)


@dataclass(frozen=True)
class _Competitor:
    """A method, or published images, and where it takes part; everywhere if that is None."""

    name: str
    specification: str | MethodEntry
    data: Sequence[str] | None
    scenarios: Sequence[str] | None

    @property
    def recipe(self) -> dict[str, Any]:
        return {"method": self.specification, "files": digests(self.specification)}

    def takes_part(self, data: str, scenario: str) -> bool:
        return (self.data is None or data in self.data) and (self.scenarios is None or scenario in self.scenarios)

    def build(self, device: torch.device) -> Fuser:
        if not isinstance(self.specification, str) and "folder" in self.specification:
            return PublishedImages(self.specification["folder"])
        named = spelled_out(self.specification) if isinstance(self.specification, str) else self.specification
        method: FusionMethod = build_method(cast(Specification, named)).to(device)
        method.setup("test")
        return method


def _with_weights(methods: Mapping[str, Any], folder: Path) -> dict[str, Any]:
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


def _competitors(methods: Mapping[str, str | MethodEntry]) -> list[_Competitor]:
    found = []
    for name, given in methods.items():
        if isinstance(given, str):
            _import_class(name, given)
            found.append(_Competitor(name, given, None, None))
            continue
        what = cast(MethodEntry, {key: value for key, value in given.items() if key not in ("data", "scenarios")})
        if set(what) not in ({"folder"}, {"checkpoint"}) and not {"class_path"} <= set(what) <= {
            "class_path",
            "init_args",
        }:
            raise UserError(f"method {name!r} must have a `folder`, a `checkpoint` or a `class_path`, but got {given}")
        _import_class(name, what.get("class_path", ""))
        scenarios = given.get("scenarios", ["clean"] if "folder" in what else None)
        found.append(_Competitor(name, what.get("checkpoint", what), given.get("data"), scenarios))
    _check_names("methods", methods)
    return found


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


def _check_places(competitors: Sequence[_Competitor], pairs: "_BenchmarkData") -> None:
    """Refuse a method that would take part in something that is not there, and name one that takes part nowhere."""
    places = [(data, scenario) for data, scenario, _ in pairs.recipes()]
    sets, scenarios = ({place[index] for place in places} for index in (0, 1))
    for competitor in competitors:
        for name in competitor.data or ():
            if name not in sets:
                raise UserError(f"`data` of method {competitor.name!r} names {name!r}, but there are {', '.join(sets)}")
        for name in competitor.scenarios or ():
            if name not in scenarios:
                find_scenario(name)  # refuses what is none; one that is not asked for this time is left out
        if not any(competitor.takes_part(*place) for place in places):
            print(printable(f"{competitor.name} is left out: it takes part in no scenario of any data set"))
    if not any(competitor.takes_part(*place) for competitor in competitors for place in places):
        raise UserError("there is nothing to measure: no method takes part in any scenario of any data set")


class _BenchmarkData:
    """The data sets, each under its scenarios."""

    def __init__(self, data: Mapping[str, Any], scenarios: Scenarios, seed: int, limit: int | None) -> None:
        self.limit = limit
        self._arguments: dict[tuple[str, str], dict[str, Any]] = {}
        self._modules: dict[tuple[str, str], FusionData] = {}
        self._digests: dict[tuple[str, ...], str] = {}
        _check_names("data", data)
        own: Scenarios
        for name, given in data.items():
            entry: dict[str, Any] = {"config": given} if isinstance(given, str) else dict(given)
            if "config" not in entry:
                raise UserError(f"data set {name!r} must say its `config`, a fragment of configs/data, but got {given}")
            (_, path) = resolve_config_names(["--data", entry.pop("config")])
            fragment = read_yaml(path, "a data set")["init_args"]
            own = entry.pop("scenarios", [] if fragment.get("scenarios") == [] else scenarios)
            asked = {one: [one] for one in own} if isinstance(own, list) else {one: {one: own[one]} for one in own}
            if asked:
                _check_names("scenarios", asked)
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


def _check_names(what: str, names: Mapping[str, Any]) -> None:
    """Names become names of files."""
    slugs = [slug(name).lower() for name in names]
    if what == "methods" and (taken := [name for name in names if slug(name).lower() in _SOURCES]):
        raise UserError(f"no method may be called {taken[0]!r}: the sources' own pictures are")
    if len(set(slugs)) < len(slugs) or not slugs:
        raise UserError(f"`{what}` needs names that differ in more than signs, but got {', '.join(names) or 'none'}")


def _describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _plain(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe as it comes back from its file."""
    plain: dict[str, Any] = json.loads(json.dumps(recipe))
    return plain
