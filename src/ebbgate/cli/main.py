"""The console script `ebbgate`: finds the command, runs it, turns what goes wrong into a line and a code."""

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, TextIO

from ebbgate.cli import exits
from ebbgate.cli.meant import arranged, meant
from ebbgate.errors import EbbgateError, NoAnswerWarning

if TYPE_CHECKING:
    from cyclopts import App

ISSUES: Final = "https://github.com/ebbgate/ebbgate/issues"
"""Where defects are reported."""

_LIMIT: Final = (
    ("create", "Create a limit."),
    ("ls", "List the limits."),
    ("inspect", "Show a limit, who holds its slots, and who waits and why."),
    ("update", "Change its slots, decay, name, description or whether it is enforced."),
    ("enable", "Enforce it from now on."),
    ("disable", "Let everybody through."),
    ("cool-down", "Let nobody in for a while; who waits stays in line."),
    ("delete", "Delete it."),
)
_LEASE: Final = (
    ("ls", "List who holds slots, and who waits."),
    ("inspect", "Show one lease."),
    ("revoke", "Take a lease away; its slots pass on."),
)

_STORE: Final = (
    ("check", "Connect to a store as a server would, and tell whether all is well."),
    ("upgrade", "Bring a store's schema to what this release knows."),
)

_QUICK_SECONDS: Final = 5.0
"""How long a person waits for a server that was never reached, unless `EBBGATE_CONNECT_TIMEOUT` says it."""

_PATIENCE_SECONDS: Final = {"run": 30.0, "demo": 30.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    code = run_command(list(sys.argv[1:] if arguments is None else arguments))
    sys.exit(code)


def run_command(arguments: list[str]) -> int:
    """Run one command line; return its exit code, whatever happens."""
    json = wants_json(arguments)
    try:
        try:
            code = _dispatch(arranged(arguments))
        finally:
            _disconnect()
        _flush()
    except BrokenPipeError:
        # Whoever read the output has gone. Python would complain once more when it flushes at the end.
        _discard_output()
        return exits.BY_SIGNAL + 13
    except BaseException as error:  # noqa: BLE001 - no traceback ever reaches a user
        code = _told(error, json)
        try:
            sys.stdout.flush()
        except OSError:
            _discard_output()
    return code


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise EbbgateError(f"cannot write the output: {error.strerror}") from error


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def wants_json(arguments: Sequence[str]) -> bool:
    """Tell whether the output is to be JSON, also if the rest cannot be understood."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(
        flag in {"-ojson", "-o=json", "--output=json"} or (flag in {"-o", "--output"} and value == "json")
        for flag, value in zip_longest(own, own[1:])
    )


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"--help", "-h", "help"}:
        from ebbgate.cli.helptext import PAGE

        sys.stdout.write(PAGE)
        return exits.OK
    if arguments == ["--version"]:
        from ebbgate.version import version

        sys.stdout.write(f"{version()}\n")
        return exits.OK
    if arguments[0] == "--names":
        from ebbgate.cli.names import names

        return names(arguments[1:])
    if arguments[0] == "run" and "--" not in arguments and not {"--help", "-h"} & set(arguments):
        raise exits.UsageError("put -- before the command, as in: ebbgate run --limit NAME -- COMMAND")
    _prepare()
    from ebbgate import settings

    before = settings.set_connect_timeout_default(_PATIENCE_SECONDS.get(arguments[0], _QUICK_SECONDS))
    try:
        result = application()(
            arguments,
            exit_on_error=False,
            print_error=False,
            help_on_error=False,
            result_action="return_value",
        )
    finally:
        settings.set_connect_timeout_default(before)
    return result if isinstance(result, int) else exits.OK


def application() -> "App":
    """Return the application; a command's module is imported when it is called."""
    from cyclopts import App, Parameter

    from ebbgate.cli.examples import examples

    app = App(
        name="ebbgate",
        help="Concurrency limits and rate limits that many processes share.",
        version_flags=(),
        help_format="plaintext",
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    limit = App(
        name=("limit", "gcl"),
        help="Create, list, inspect, change and delete limits.",
        help_epilogue=examples("limit"),
    )
    lease = App(
        name="lease",
        help="Who holds slots, who waits for them, and taking a lease away.",
        help_epilogue=examples("lease"),
    )
    for group, verbs in ((limit, _LIMIT), (lease, _LEASE)):
        for verb, what in verbs:
            group.command(
                f"ebbgate.cli.{group.name[0]}s:{verb.replace('-', '_')}",
                name=("ls", "list") if verb == "ls" else verb,
                help=what,
                help_epilogue=examples(f"{group.name[0]} {verb}"),
            )
        app.command(group)
    usage = "Usage: ebbgate run --limit NAME [OPTIONS] -- COMMAND [ARGUMENTS]"
    app.command("ebbgate.cli.run:run", name="run", usage=usage, help_epilogue=examples("run"))
    for name in ("top", "serve", "apply"):
        app.command(f"ebbgate.cli.{name}:{name}", name=name, help_epilogue=examples(name))
    app.command("ebbgate.cli.apply:export", name="export", help_epilogue=examples("export"))
    imports = App(
        name="import",
        help="Copy limits from elsewhere: those of a Prefect server, so far.",
        help_epilogue=examples("import prefect"),
    )
    imports.command(
        "ebbgate.cli.import_prefect:prefect",
        name="prefect",
        help_epilogue=examples("import prefect"),
    )
    app.command(imports)
    store = App(
        name="store", help="Look at the store of servers, and upgrade it.", help_epilogue=examples("store")
    )
    for verb, what in _STORE:
        store.command(
            f"ebbgate.cli.store:{verb}", name=verb, help=what, help_epilogue=examples(f"store {verb}")
        )
    app.command(store)
    for name in ("demo", "doctor", "completion"):
        app.command(f"ebbgate.cli.{name}:{name}", name=name, help_epilogue=examples(name))
    return app


def _prepare() -> None:
    """Have warnings look like everything else that is said, and the log silent unless asked for."""
    warnings.showwarning = _show_warning
    warnings.simplefilter(
        "ignore", NoAnswerWarning
    )  # commands end soon without an answer, or tell it in their way
    if _is_debugging():
        import logging

        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)


def _show_warning(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001 - the names are those of `warnings.showwarning`
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    sys.stderr.write(f"ebbgate: warning: {str(message).replace('strict=True', '--if-missing fail')}\n")


def _disconnect() -> None:
    """Say good-bye to the store here, where a problem with that is told properly."""
    default = sys.modules.get("ebbgate.client.default")
    if default is not None:
        for client in default._clients.values():
            client.close()


def _told(error: BaseException, json: bool) -> int:
    """Tell on stderr what went wrong; return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else exits.OK if error.code is None else exits.ERROR
    if _is_debugging():
        traceback.print_exception(error)
    code, word, detail = _explained(error)
    if json:
        from ebbgate.cli.printing import json_of

        sys.stderr.write(json_of({"code": word, "detail": detail}) + "\n")
    elif detail:
        sys.stderr.write(f"ebbgate: {detail}\n")
    return code


def _explained(error: BaseException) -> tuple[int, str, str]:
    """Return the exit code, the stable word and the sentence for an error."""
    if isinstance(error, EbbgateError):
        return exits.exit_code(error), error.code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return exits.BY_SIGNAL + 2, "interrupted", "interrupted"
    if isinstance(error, exits.Interrupted):
        return exits.BY_SIGNAL + error.number, "interrupted", str(error)
    cyclopts = sys.modules.get("cyclopts")
    if cyclopts is not None and isinstance(error, cyclopts.CycloptsError):
        return exits.USAGE, exits.UsageError.code, _usage(error)
    if isinstance(error, OSError):
        return exits.ERROR, EbbgateError.code, f"the system refuses: {error}"
    import shlex

    sentence = (
        f"unexpected {type(error).__name__}: {error}; this is a defect, please report it at {ISSUES} "
        f"with the output of: EBBGATE_DEBUG=1 ebbgate {shlex.join(sys.argv[1:])}"
    )
    return exits.ERROR, "internal", sentence


def _usage(error: Any) -> str:  # noqa: ANN401 - a CycloptsError, which is imported only when needed
    """Return what cannot be understood, and where the right words stand."""
    from cyclopts import MissingArgumentError, UnknownCommandError, UnusedCliTokensError

    said = str(error).strip()
    said = said if said.endswith("...") else said.rstrip(".")  # a list that is cut short ends so
    said = f"{said[:1].lower()}{said[1:]}"
    if isinstance(error, UnusedCliTokensError):
        said = f"unexpected {' '.join(map(repr, error.unused_tokens or ()))}"
    elif isinstance(error, MissingArgumentError) and error.argument is not None and "Did you" not in said:
        names = error.argument.names
        given = any(token.partition("=")[0] in names for token in error.root_input_tokens or ())
        said = f"{error.argument.name} {'needs a value' if given else 'is missing'}"
    elif isinstance(error, UnknownCommandError) and error.unused_tokens:
        word = error.unused_tokens[0]
        right = meant(error.command_chain or (), word)
        said = f'unknown command "{word}". Did you mean "{right}"?' if right else said
    chain = " ".join(error.command_chain or ())
    stop = "" if said.endswith(("?", "...")) else "."
    return f"{said}{stop} See: ebbgate {chain + ' ' if chain else ''}--help"


def _is_debugging() -> bool:
    return os.environ.get("EBBGATE_DEBUG", "") not in {"", "0"}


if __name__ == "__main__":
    main()
