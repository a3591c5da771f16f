"""Exceptions that are told to the user in one line, and the exit code of a run that was stopped."""

# SIGTERM stopped the command, which has saved and goes on when it is started again. It is
# EX_TEMPFAIL of sysexits.h: a scheduler must not take such a run for a finished one.
STOPPED = 75


class InputError(ValueError):
    """Bad input: the message names the thing, the value, and what to do about it."""


class DivergedError(ArithmeticError):
    """Training met a number that is not finite; the message says where."""
