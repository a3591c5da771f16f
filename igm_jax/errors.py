"""Exceptions that commands report in one line, and the exit code of a stopped run."""

# SIGTERM stopped the command, which has saved and can resume. The value is
# EX_TEMPFAIL of sysexits.h, so that a scheduler does not count the run as finished.
STOPPED = 75


class InputError(ValueError):
    """Bad input; the message names the thing, the value and the remedy."""


class DivergedError(ArithmeticError):
    """A number that is not finite during training; the message names the step."""
