"""Benchmark: methods on data sets under scenarios, as tables and pictures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

import fusion_lightning
from fusion_lightning.batch import FusionBatch
from fusion_lightning.commands.benchmark.competitors import Competitor, MethodEntry, find_competitors, with_weights
from fusion_lightning.commands.benchmark.measure import Fuser, measure
from fusion_lightning.commands.benchmark.pairs import BenchmarkData, Scenarios
from fusion_lightning.commands.benchmark.report import picture_writer, report
from fusion_lightning.commands.benchmark.store import Trial, TrialStore
from fusion_lightning.commands.devices import Precision, find_device, runs_in_bf16
from fusion_lightning.commands.evaluate import metric_names
from fusion_lightning.commands.tables import Format, print_table
from fusion_lightning.degradations import scenario as find_scenario
from fusion_lightning.errors import UserError
from fusion_lightning.methods.loading import Arguments
from fusion_lightning.metrics import METRICS
from fusion_lightning.text import counted, printable


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
        methods = with_weights(methods, Path(weights_folder))
    competitors = find_competitors(methods)
    pairs = BenchmarkData(data, scenarios, seed, limit)
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
            f"{len(failed)} of {counted(len(trials), 'trial')} failed, the first one {one.method} on {one.data}, "
            f"{one.scenario}: {one.failure}; the others are done, and the same command tries the failed ones again"
        )


def _measure(
    trials: list[Trial],
    competitors: Mapping[str, Competitor],
    pairs: BenchmarkData,
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


def _check_places(competitors: Sequence[Competitor], pairs: BenchmarkData) -> None:
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


def _describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _plain(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe as it comes back from its file."""
    plain: dict[str, Any] = json.loads(json.dumps(recipe))
    return plain
