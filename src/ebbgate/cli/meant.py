"""Words that people try because another tool has them, and the ones that are meant."""

from collections.abc import Sequence
from typing import Final

_COMMANDS: Final = {
    **{verb: f"limit {verb}" for verb in ("create", "ls", "list", "inspect", "update", "enable", "disable")},
    **{verb: f"limit {verb}" for verb in ("cool-down", "delete")},
    "revoke": "lease revoke",
    "ps": "lease ls",
    "exec": "run",
    "server": "serve",
    "start": "serve",
    "status": "doctor",
    "check": "doctor",
    "watch": "top",
    "version": "--version",
}

_VERBS: Final = {
    **dict.fromkeys(("add", "new", "make"), "create"),
    **dict.fromkeys(("show", "get", "describe"), "inspect"),
    **dict.fromkeys(("set", "edit", "change", "resize"), "update"),
    **dict.fromkeys(("rm", "remove", "del"), "delete"),
}

_GROUPS: Final = frozenset({"limit", "gcl"})


def arranged(arguments: Sequence[str]) -> list[str]:
    """Return the arguments in the order in which they are understood: `-o json` after the command, `--help` last."""
    first, *rest = arguments or [""]
    if first == "help" and rest:
        return [*rest, "--help"]
    if first in {"-o", "--output"}:
        flag = [first, *rest[:1]]
    elif first.startswith(("-o", "--output=")):
        flag = [first]
    else:
        return list(arguments)
    others = list(arguments[len(flag) :])
    end = others.index("--") if "--" in others else len(others)
    return [*others[:end], *flag, *others[end:]]


def meant(chain: Sequence[str], word: str) -> str:
    """Return the command that `word` after `chain` perhaps stands for; "": nobody knows."""
    if not chain:
        return _COMMANDS.get(word, "")
    verb = _VERBS.get(word, "")
    return f"{chain[0]} {verb}" if verb and chain[0] in _GROUPS and len(chain) == 1 else ""
