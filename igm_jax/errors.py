"""The one exception that means "the input is at fault, not the program"."""


class InputError(ValueError):
    """Bad input, told in one line: the thing, the value, and what to do about it.

    The command lines print it without a traceback and leave with a non-zero exit code; library
    users catch it as a `ValueError`.
    """
