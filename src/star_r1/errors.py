"""The one exception a user sees: one line that names what was wrong, where, and what to do."""


class UserError(Exception):
    """A mistake in the input (file, flag, field) that the command line prints without a traceback.

    The message is one line: what is wrong, where (file, line, field, value), and what to do.
    """
