"""What a command says when it fails: one sentence, the next command to type, and an exit code. Never a traceback,
unless asked."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

_FILE_ERRORS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
"""Of a path, where they name one; without a path they are a server's socket."""
FAILED, USAGE, NOT_READY, NOT_FOUND, BAD_SETTINGS = 1, 2, 3, 4, 78


class CommandFailed(Exception):
    """A command cannot do what it was asked for. ``advice`` is the next command to type, or what to change."""

    def __init__(self, message: str, *, advice: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code


def judged(error: Exception) -> CommandFailed:
    """The failure to tell for any error. Libraries' errors are told apart by name, so that none has to be imported."""
    if isinstance(error, CommandFailed):
        return error
    names = {cls.__name__ for cls in type(error).__mro__}
    if "SettingsError" in names:
        faults: Sequence[str] = getattr(error, "faults", ())
        return CommandFailed("\n".join(faults), advice="correct these, then: connector config show", code=BAD_SETTINGS)
    if "TopicMismatch" in names:
        return CommandFailed(str(error), advice="connector topics apply", code=NOT_READY)
    if names & {"UndefinedTableError", "UndefinedColumnError"}:
        return CommandFailed("the database is not up to date", advice="connector migrate", code=NOT_READY)
    if names & {"StackError"}:
        return CommandFailed(str(error), advice="make down", code=NOT_READY)
    if names & {"KafkaConnectionError", "KafkaTimeoutError", "NodeNotReadyError", "BrokerUnavailable"}:
        return CommandFailed("the broker does not answer", advice="connector up", code=NOT_READY)
    if isinstance(error, OSError) and (found := _of_the_system(error)) is not None:
        return found
    if names & {"TimeoutError", "ConnectionError", "PostgresConnectionError", "CannotConnectNowError", "OSError"}:
        return CommandFailed(
            f"a server does not answer ({type(error).__name__})", advice="connector up", code=NOT_READY
        )
    # The text of an unforeseen error may quote anything, an address with a password too: only its type is shown.
    return CommandFailed(f"unexpected {type(error).__name__}", advice="CONNECTOR_DEBUG=1 shows where")


def _of_the_system(error: OSError) -> CommandFailed | None:
    """What the system said of a path, a disk or an address; None where it says nothing of its own."""
    if error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
        return CommandFailed(f"the output cannot be written ({os.strerror(error.errno)})", advice="make room for it")
    if isinstance(error, _FILE_ERRORS) and error.filename is not None:
        text = f"{error.filename}: {os.strerror(error.errno or 0)}"
        return CommandFailed(text, advice="give it another path, or put that right", code=USAGE)
    if error.errno == errno.EADDRINUSE:
        text = "the address to listen on is taken by another program"
        return CommandFailed(text, advice="stop it, or set CONNECTOR__HTTP__PORT to another port", code=NOT_READY)
    return None


def exit_with(error: Exception) -> NoReturn:
    """Tells the failure on standard error and exits. With CONNECTOR_DEBUG=1 the error itself is raised."""
    if os.environ.get("CONNECTOR_DEBUG") == "1":
        raise error
    failure = judged(error)
    sys.stderr.write(f"error: {failure}\n")
    if failure.advice:
        sys.stderr.write(f"next:  {failure.advice}\n")
    sys.exit(failure.code)
