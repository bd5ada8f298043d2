"""Methods from plain values: a checkpoint, a class, or a class with its arguments."""

from collections.abc import Mapping
from typing import Any

from fusion_lightning.errors import UserError
from fusion_lightning.methods.base import FusionMethod, known_methods, load_method

Specification = str | Mapping[str, Any]
"""The path of a ``.ckpt`` file, the name of a class, or ``{class_path: NAME, init_args: {…}}``."""


def build_method(specification: Specification) -> FusionMethod:
    """Build a method, in evaluation.

    Raises:
        UserError: If there is no such class or checkpoint, or the arguments are not the class's.
    """
    if isinstance(specification, str) and specification.endswith(".ckpt"):
        return load_method(specification).eval()
    wanted: dict[str, Any] = {"class_path": specification} if isinstance(specification, str) else dict(specification)
    if "class_path" not in wanted or not set(wanted) <= {"class_path", "init_args"}:
        raise UserError(f"a method must be a .ckpt file, a class, or `class_path` and `init_args`, but got {wanted}")
    known = known_methods()
    name = str(wanted["class_path"]).rsplit(".", 1)[-1]
    if name not in known:
        public = sorted(one for one in known if not one.startswith("_"))
        raise UserError(f"there is no method {name!r}: known are {', '.join(public)}, and checkpoints end in .ckpt")
    try:
        arguments: dict[str, Any] = wanted.get("init_args") or {}
        return known[name](**arguments).eval()
    except TypeError as error:
        raise UserError(f"{name} cannot be built: {error}") from error
