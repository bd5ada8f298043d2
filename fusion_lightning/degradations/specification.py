"""Degradations as text, for configs and the command line.

::

    specification = chain { "|" chain }                    one of them, drawn per image
    chain         = [ weight "*" ] effect { "+" effect }   one after another
    effect        = name [ "@" severity ] | name "(" arguments ")" | "(" specification ")"
    arguments     = value or name=value, separated by commas
    value         = number | low..high | true | false | word

A value without a name belongs to the effect's first argument. ``+`` binds more tightly than ``|``.
"""

import re
from typing import Any, NoReturn

from fusion_lightning.degradations.base import EFFECTS, Chain, Degradation, OneOf, hints
from fusion_lightning.errors import UserError, nearest, suggestion

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?\d+(?:\.(?!\.)\d*)?(?:[eE][-+]?\d+)?)|(?P<word>[A-Za-z_]\w*)|(?P<sign>\.\.|.))"
)
_END = ""


def parse(specification: str) -> Degradation:
    """Read a degradation from its specification.

    Args:
        specification: E.g. ``blur(sigma=2)+noise(sigma=14)+downsample(4)``, ``noise(sigma=5..20)|stripes`` or
            ``haze@3``; see the module for the grammar.

    Raises:
        UserError: If the text is not a specification; the message names the wrong part and what may stand there.
    """
    return _Parser(specification).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [match.group().strip() for match in _TOKEN.finditer(text.rstrip())]
        self.position = 0

    def parse(self) -> Degradation:
        if not self.tokens:
            self.fail("it is empty; write `identity` for no degradation")
        result = self.one_of()
        if self.peek() != _END:
            self.fail(f"`{self.peek()}` was not expected after `{self.tokens[self.position - 1]}`")
        return result

    def one_of(self) -> Degradation:
        weights, choices = zip(*self.separated("|", self.weighted_chain), strict=True)
        if len(choices) == 1:
            return choices[0]
        try:
            return OneOf(choices, None if set(weights) == {1.0} else weights)
        except UserError as error:
            self.fail(str(error))

    def weighted_chain(self) -> tuple[float, Degradation]:
        weight = 1.0
        if _is_number(self.peek()):
            weight = float(self.take())
            self.expect("*", "between a weight and its degradation")
        parts = self.separated("+", self.effect)
        return weight, parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def effect(self) -> Degradation:
        if self.peek() == "(":
            self.take()
            inside = self.one_of()
            self.expect(")", "at the end of the group")
            return inside
        name = self.take()
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            self.fail(f"an effect must be named where {f'`{name}` stands' if name else 'the text ends'}")
        if name not in EFFECTS:
            self.fail(f"`{name}` is no effect; {suggestion(name, EFFECTS, 'degradations')}")
        if self.peek() == "@":
            self.take()
            return EFFECTS[name].at_severity(self.severity())
        return self.build(EFFECTS[name], self.arguments(EFFECTS[name]) if self.peek() == "(" else {})

    def severity(self) -> int:
        level = self.take()
        if level not in ("1", "2", "3", "4", "5"):
            self.fail(f"the severity after `@` must be a whole number from 1 to 5, but got `{level}`")
        return int(level)

    def arguments(self, effect: type[Degradation]) -> dict[str, Any]:
        names = list(hints(effect))
        self.take()
        arguments: dict[str, Any] = {}
        if self.peek() == ")":
            self.take()
            return arguments
        while True:
            name = names[0] if names else self.peek()
            if self.tokens[self.position + 1 : self.position + 2] == ["="]:
                name = self.take()
                self.take()
            elif arguments:
                self.fail(f"only the first argument of `{effect.name}` goes without its name, but got `{self.peek()}`")
            if name not in names:
                known = nearest(name, names) or f"known are {', '.join(names) or 'none'}"
                self.fail(f"`{effect.name}` has no argument `{name}`; {known}")
            if name in arguments:
                self.fail(f"`{name}` of `{effect.name}` is given twice")
            arguments[name] = self.value(f"`{name}` of `{effect.name}`")
            if self.peek() != ",":
                break
            self.take()
        self.expect(")", f"after the arguments of `{effect.name}`")
        return arguments

    def value(self, where: str) -> Any:
        token = self.take()
        if token in ("true", "True", "false", "False"):
            return token.lower() == "true"
        if not _is_number(token):
            if not re.fullmatch(r"[A-Za-z_]\w*", token):
                self.fail(f"{where} must be a number, a range low..high, true, false or a word, but got `{token}`")
            return token
        if self.peek() != "..":
            return _number(token)
        self.take()
        high = self.take()
        if not _is_number(high):
            self.fail(f"{where} must be a range low..high, but got `{token}..{high}`")
        return (_number(token), _number(high))

    def build(self, effect: type[Degradation], arguments: dict[str, Any]) -> Degradation:
        try:
            return effect(**arguments)
        except UserError as error:
            self.fail(str(error))

    def separated(self, sign: str, rule: Any) -> list[Any]:
        parts = [rule()]
        while self.peek() == sign:
            self.take()
            parts.append(rule())
        return parts

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else _END

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    def expect(self, sign: str, where: str) -> None:
        token = self.take()
        if token != sign:
            self.fail(f"`{sign}` must stand {where}, but {f'got `{token}`' if token else 'the text ends'}")

    def fail(self, reason: str) -> NoReturn:
        raise UserError(f"degradation `{self.text}` cannot be read: {reason}")


def _is_number(token: str) -> bool:
    return re.fullmatch(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?", token) is not None


def _number(token: str) -> int | float:
    return int(token) if re.fullmatch(r"[-+]?\d+", token) else float(token)
