"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """
    A mistake in what the user gave: a path, a file, an option.

    The message is one line that names what was received and what to do. Command lines print it
    without a traceback and exit with status 2.
    """
