"""The one base class of the errors that are written for the user of a command or of the node."""


class UserError(Exception):
    """Something that the user can mend; its message names the file, topic or parameter, the value, what is accepted.

    The command line and the node print the message alone. Every other exception is a defect of ours, and keeps its
    traceback. Errors of the system (OSError) count as the user's too: a full disk is nobody's defect.
    """


class InvalidValue(UserError, ValueError):
    """A value that is not accepted."""


class OperationFailed(UserError, RuntimeError):
    """Something that was asked for rightly, and could not be done."""


def is_for_the_user(error: BaseException) -> bool:
    """True where ``error`` needs no traceback: its message says what to mend."""
    return isinstance(error, UserError | OSError)
