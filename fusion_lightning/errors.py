"""User-facing exceptions and remarks, checks of option values, and OSError in plain words."""

import difflib
import errno
import signal
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any, get_args


class UserError(ValueError):
    """Error for the user: something typed, configured or on disk cannot be used.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with code 1; from Python it is an ordinary `ValueError`.
    """


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuse a value that is not among its choices.

    Args:
        name: What the user calls it.
        value: What was given.
        choices: A ``Literal`` type, or the choices themselves.

    Raises:
        UserError: If it is none of them.
    """
    allowed = get_args(choices) or tuple(choices)
    if value not in allowed:
        raise UserError(f"`{name}` must be one of {', '.join(map(str, allowed))}, but got {value!r}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The names most like one that is not known, as a question; nothing where none is like it.

    Case, and the ending of a configuration, make no difference.

    Example:
        >>> nearest("ms_ssim", ["VIF", "MS_SSIM"]), nearest("xyz", ["VIF"])
        ('did you mean `MS_SSIM`?', '')
    """
    folded = {one.lower().removesuffix(".yaml"): one for one in known}
    near = difflib.get_close_matches(name.lower().removesuffix(".yaml"), folded, n=2, cutoff=0.65)
    return f"did you mean {' or '.join(f'`{folded[one]}`' for one in near)}?" if near else ""


def suggestion(name: str, known: Iterable[str], kind: str) -> str:
    """What to do about a name that is not known: the nearest ones, and the word of `list` that shows all.

    Example:
        >>> suggestion("SSSIM", ["VIF", "SSIM"], "metrics")
        'did you mean `SSIM`? `list metrics` shows all'
    """
    return f"{nearest(name, known)} `list {kind}` shows all".lstrip()


@cache
def notice(sentence: str) -> None:
    """Say something the user should know, on standard error and once: work goes on."""
    print(f"note: {sentence}", file=sys.stderr)


class Interrupted(BaseException):
    """Request to stop a run; no Exception, so that no error handler keeps the run from stopping.

    Args:
        message: What was saved, and how to go on.
        signum: The signal that asked.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signal.Signals(signum)

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as a shell reports it."""
        return 128 + self.signum


_REASONS = {
    errno.ENOSPC: "the disk is full, free some space",
    errno.EDQUOT: "the disk quota is used up, free some space",
    errno.EFBIG: "the file would be larger than the limit for files, raise it (ulimit -f)",
    errno.EACCES: "permission is denied, choose a place you may use",
    errno.EPERM: "permission is denied, choose a place you may use",
    errno.EROFS: "the file system is read-only, choose another place",
    errno.ENOTDIR: "a part of its path is a file, choose another place",
    errno.EEXIST: "something else is in its place, choose another",
    errno.EISDIR: "a folder is in its place, choose another name",
}


def plain_reason(error: OSError) -> str:
    """The reason of an OSError in plain words."""
    return _REASONS.get(error.errno or 0, (error.strerror or str(error)).lower())
