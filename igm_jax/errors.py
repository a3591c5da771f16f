"""Exceptions that are told to the user in one line, without a traceback."""


class InputError(ValueError):
    """Bad input: the message names the thing, the value, and what to do about it."""


class DivergedError(ArithmeticError):
    """Training met a number that is not finite; the message says where."""
