"""The command line: gradfit fit | grow | many | plot | predict | models | show | shapes | explain | bench | cache."""

import difflib
import os
import sys
import traceback
from collections.abc import Sequence

import typer

from gradfit._lazy import stage
from gradfit.cli.commands import COMMANDS
from gradfit.cli.grow_command import app
from gradfit.cli.screen import Screen
from gradfit.errors import GradfitError
from gradfit.shell import command_line

#: what typer raises for a wrong option; its own copy of click, or click's, by its version
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
INTERRUPTED = 130  # as a shell counts a process that Ctrl-C has ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    0: done; of a fit, verdict Trust or Caution. 1: fitted, verdict No. 2: bad use or bad input, nothing was written.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    command = command_line(["gradfit", *words])
    try:
        code: object = app(args=words, prog_name="gradfit", standalone_mode=False, obj=command)
    except GradfitError as error:
        return _refused(error, error, words)
    except UsageError as error:
        return _refused(_usage(error, words), error, words)
    except (KeyboardInterrupt, typer.Abort):
        Screen.of("stderr").write("Interrupted before there was a result; nothing was written")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last line of defence: a sentence instead of a traceback
        return _refused(_defect(error), error, words)
    return code if isinstance(code, int) else 0


def _refused(told: GradfitError, error: Exception, words: Sequence[str]) -> int:
    screen = Screen.of("stderr")
    if os.environ.get("GRADFIT_TRACEBACK"):
        screen.write("".join(traceback.format_exception(error)))
    command = command_line(["gradfit", *words])
    head = _HEADS.get(words[0] if words else "", "Not done")
    text = stage("terminal.answer").failure(
        told, command=command, head=head, width=screen.width, color=screen.color, unicode=screen.unicode
    )
    screen.write(text)
    return 2


_HEADS = {
    "fit": "Not fitted",
    "predict": "Not predicted",
    "plot": "Not plotted",
    "bench": "Not measured",
    "shapes": "Not joined",
    "explain": "Not explained",
}


def _defect(error: Exception) -> GradfitError:
    if isinstance(error, OSError):
        return GradfitError(
            ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
        )
    first = (str(error).strip().splitlines() or [""])[0][:300]
    return GradfitError(
        f"{type(error).__name__}: {first}" if first else type(error).__name__,
        remedy="This is a defect of gradfit, or of what it uses. With GRADFIT_TRACEBACK=1 in the environment the command "
        "shows where it comes from; please report that",
    )


def _usage(error: Exception, words: Sequence[str]) -> GradfitError:
    """Return a wrong use of options as our own error, with the nearest option or command."""
    formatted = getattr(error, "format_message", None)
    message = str(formatted() if callable(formatted) else error).strip().partition(" Did you mean ")[0]
    message = message.partition(" (Possible options")[0].removesuffix(".")
    command = words[0] if words and words[0] in COMMANDS else ""
    wrong = str(getattr(error, "option_name", "")) or (words[0] if words else "")
    known = [str(name) for name in getattr(error, "possibilities", None) or ()] or (
        [] if command else list(COMMANDS)
    )
    near = difflib.get_close_matches(wrong, known, 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return GradfitError(message, remedy=f"{hint}See: gradfit {f'{command} ' if command else ''}--help")
