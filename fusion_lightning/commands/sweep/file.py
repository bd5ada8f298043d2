"""W&B sweep files: search space, method and command."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_lightning.configuration import read_yaml
from fusion_lightning.errors import UserError, check_choice

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.trial import Trial

_METHODS = ("bayes", "random", "grid")
_RANGES = ("uniform", "log_uniform_values", "q_uniform", "q_log_uniform_values", "int_uniform")
_KEYS = {"command", "method", "metric", "parameters", "early_terminate", "program", "run_cap"}
_SERVERS_KEYS = {"name", "description", "project", "entity", "controller", "imageuri", "image_uri", "job", "scheduler"}
"""What only W&B's server makes use of."""
_MACRO = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class SweepFile:
    """A sweep as W&B reads it.

    Attributes:
        method: ``bayes``, ``random`` or ``grid``.
        metric: The logged key that is to become large or small.
        maximize: Whether it is to become large.
        parameters: Option without dashes -> where its values are drawn from.
        constants: Option without dashes -> its one value.
        command: The command line; ``${args}`` stands for the options.
        program: What ``${program}`` stands for.
        run_cap: How many trials the search has; None leaves it to the command line.
        min_iter: How many values a trial logs before it may be stopped; None lets all trials run to their end.
        eta: Of as many trials one goes on.
    """

    method: str
    metric: str
    maximize: bool
    parameters: "dict[str, BaseDistribution]"
    constants: dict[str, Any]
    command: list[str]
    program: str | None
    run_cap: int | None
    min_iter: int | None
    eta: int

    def command_line(self, values: dict[str, Any]) -> list[str]:
        """The command line of a trial, as a W&B agent puts it together, but with the Python that runs the search.

        Raises:
            UserError: If the command needs an environment variable that is not set, or something that is not known.
        """
        line: list[str] = []
        for word in self.command:
            if word == "${args}":
                line += [f"--{name}={value}" for name, value in (self.constants | values).items()]
            elif word == "${env}":
                line += ["/usr/bin/env"] if os.name == "posix" else []
            else:
                line.append(_MACRO.sub(lambda match: self._meaning(match.group(1)), word))
        return line

    def _meaning(self, macro: str) -> str:
        """What ``${macro}`` stands for within a word of the command."""
        if macro.startswith("envvar:"):
            return _variable(macro.removeprefix("envvar:"))
        if macro == "interpreter":
            # an environment need not be activated: the first `python` on the path may be another one
            return sys.executable
        if macro == "program" and self.program is not None:
            return self.program
        if macro == "program":
            raise UserError("`command` has ${program}, but there is no `program`")
        raise UserError(
            f"`command` has ${{{macro}}}: known are ${{interpreter}}, ${{program}}, ${{envvar:NAME}} and, as words of "
            "their own, ${env} and ${args}"
        )

    def choices(self, name: str) -> list[Any]:
        """The values of an option of a grid."""
        return list(getattr(self.parameters[name], "choices", ()))

    def suggest(self, trial: "Trial", name: str) -> Any:
        """The value of an option in a trial."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        space = self.parameters[name]
        if isinstance(space, CategoricalDistribution):
            return trial.suggest_categorical(name, space.choices)
        low, high = getattr(space, "low"), getattr(space, "high")  # noqa: B009 (the base class does not name them)
        if isinstance(space, FloatDistribution):
            return trial.suggest_float(name, low, high, step=space.step, log=space.log)
        return trial.suggest_int(name, low, high)

    def pruner(self) -> "BasePruner":
        """Hyperband as W&B runs it: after min_iter · ηᵏ values only the best 1/η of the trials go on."""
        from optuna.pruners import NopPruner, SuccessiveHalvingPruner

        if self.min_iter is None:
            return NopPruner()
        return SuccessiveHalvingPruner(min_resource=self.min_iter, reduction_factor=self.eta)


def read_sweep(path: str | Path) -> SweepFile:
    """Read a W&B sweep.

    Raises:
        UserError: If it cannot be read or asks for something that is not known here.
    """
    content = read_yaml(path, "a sweep")
    try:
        return _parse(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _parse(content: Any) -> SweepFile:
    _check_keys("a sweep", content, _KEYS | _SERVERS_KEYS, needed={"command", "method", "metric", "parameters"})
    check_choice("method", content["method"], _METHODS)
    metric = content["metric"]
    _check_keys("`metric`", metric, {"name", "goal"}, needed={"name", "goal"})
    if metric["goal"] not in ("maximize", "minimize"):
        raise UserError(f"`metric.goal` must be maximize or minimize, but got {metric['goal']!r}")
    command = content["command"]
    if not isinstance(command, list) or "${args}" not in command:
        raise UserError("`command` must be a list of words with ${args} among them")
    if not isinstance(content["parameters"], dict):
        raise UserError("`parameters` must name options and where their values come from")
    constants = {
        name: rule["value"]
        for name, rule in content["parameters"].items()
        if isinstance(rule, dict) and set(rule) - {"distribution"} == {"value"}
    }
    parameters = {
        str(name): _distribution(str(name), rule)
        for name, rule in content["parameters"].items()
        if name not in constants
    }
    if not parameters:
        raise UserError("`parameters` has nothing to search: give at least one option `values`, or `min` and `max`")
    if content["method"] == "grid" and (ranges := [name for name, one in parameters.items() if not _is_list(one)]):
        raise UserError(f"`method: grid` needs `values` for every option, but {ranges[0]} has a range")
    program, run_cap = content.get("program"), content.get("run_cap")
    if run_cap is not None and not (type(run_cap) is int and run_cap >= 1):
        raise UserError(f"`run_cap` must be a number of trials from 1 upwards, but got {run_cap!r}")
    min_iter, eta = _hyperband(content.get("early_terminate"))
    return SweepFile(
        content["method"],
        str(metric["name"]),
        metric["goal"] == "maximize",
        parameters,
        constants,
        [str(word) for word in command],
        None if program is None else str(program),
        run_cap,
        min_iter,
        eta,
    )


def _distribution(name: str, rule: Any) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    _check_keys(f"`parameters.{name}`", rule, {"distribution", "values", "min", "max", "q"})
    if "values" in rule:
        if not isinstance(rule["values"], list) or not rule["values"]:
            raise UserError(f"`parameters.{name}.values` must be a list of values, but got {rule['values']!r}")
        return CategoricalDistribution(rule["values"])
    low, high = rule.get("min"), rule.get("max")
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)) or not low < high:
        raise UserError(f"`parameters.{name}` needs `values`, or numbers `min` < `max`, but got {rule}")
    integers = isinstance(low, int) and isinstance(high, int)
    kind = rule.get("distribution", "int_uniform" if integers else "uniform")
    check_choice(f"parameters.{name}.distribution", kind, _RANGES)
    if kind == "int_uniform":
        return IntDistribution(int(low), int(high))
    if (log := "log" in kind) and low <= 0:
        raise UserError(f"`parameters.{name}.min` must be above 0 for {kind}, but got {low}")
    # on a logarithmic scale Optuna has no steps: what is drawn there is as fine as it comes
    return FloatDistribution(float(low), float(high), log=log, step=rule.get("q") if kind == "q_uniform" else None)


def _hyperband(rule: Any) -> tuple[int | None, int]:
    if rule is None:
        return None, 3
    _check_keys("`early_terminate`", rule, {"type", "min_iter", "max_iter", "eta", "s", "strict"}, needed={"type"})
    if rule["type"] != "hyperband":
        raise UserError(f"`early_terminate.type` must be hyperband, but got {rule['type']!r}")
    eta = rule.get("eta", 3)
    min_iter = rule.get("min_iter")
    if min_iter is None and {"max_iter", "s"} <= set(rule):
        min_iter = max(1, round(rule["max_iter"] / eta ** rule["s"]))
    if not (isinstance(min_iter, int) and min_iter >= 1 and isinstance(eta, int) and eta >= 2):
        raise UserError(f"`early_terminate` needs `min_iter` of at least 1 and `eta` of at least 2, but got {rule}")
    return min_iter, eta


def _check_keys(what: str, found: Any, known: set[str], needed: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    if not isinstance(found, dict):
        raise UserError(f"{what} must be a mapping, but got {found!r}")
    if unknown := [str(key) for key in found if key not in known]:
        raise UserError(f"{what} has no key {unknown[0]!r}: known are {', '.join(sorted(known))}")
    if missing := sorted(needed - set(found)):
        raise UserError(f"{what} lacks {missing[0]!r}")


def _is_list(distribution: "BaseDistribution") -> bool:
    return hasattr(distribution, "choices")


def _variable(name: str) -> str:
    if name not in os.environ:
        raise UserError(f"the sweep's command needs the environment variable {name}: export {name}=… first")
    return os.environ[name]
