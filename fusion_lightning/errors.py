"""The one exception a user is meant to read."""


class UserError(ValueError):
    """Something the user typed, configured or has on disk cannot be used.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with code 1; from Python it is an ordinary `ValueError`.
    """
