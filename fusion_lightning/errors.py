"""User-facing exceptions and remarks, checks of option values, and OSError in plain words."""

import errno
import signal
import sys
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
