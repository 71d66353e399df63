"""`ebbgate completion`: the script that teaches a shell the commands, the flags, and the names that there are."""

import sys
from importlib import import_module
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from ebbgate.cli.options import Output

# Beside the words that cyclopts knows: names of limits and ids of leases, asked for when somebody presses tab.
_BASH: Final = r"""
# Print which names belong at the cursor: limits, leases or nothing.
_ebbgate_kind() {
  local line="${COMP_WORDS[*]:1:COMP_CWORD-1}"
  local limit='^((limit|gcl) (inspect|update|enable|disable|cool-down|delete)|top)$'
  local lease='^lease (inspect|revoke)$'
  local option='^(run|lease (ls|list))( .*)? (--limit|-l|--rate-limit)$'
  if [[ "$line " == *" -- "* ]]; then
    return
  elif [[ "$line" =~ $limit || "$line" =~ $option ]]; then
    echo limits
  elif [[ "$line" =~ $lease ]]; then
    echo leases
  fi
}

_ebbgate_or_names() {
  local kind cur="${COMP_WORDS[COMP_CWORD]}" name
  kind="$(_ebbgate_kind)"
  if [[ -z "$kind" || "$cur" == -* ]]; then
    _ebbgate "$@"
    return
  fi
  COMPREPLY=()
  while IFS= read -r name; do
    COMPREPLY+=("$(printf '%q' "$name")")
  done < <(ebbgate --names "$kind" "$cur" 2>/dev/null)
}

complete -F _ebbgate_or_names ebbgate
"""
_ZSH: Final = r"""
# Print which names belong at the cursor: limits, leases or nothing.
_ebbgate_kind() {
  local line="${(j: :)words[2,CURRENT-1]}"
  if [[ "$line " == *" -- "* ]]; then
    return
  elif [[ "$line" =~ '^((limit|gcl) (inspect|update|enable|disable|cool-down|delete)|top)$' ||
          "$line" =~ '^(run|lease (ls|list))( .*)? (--limit|-l|--rate-limit)$' ]]; then
    echo limits
  elif [[ "$line" =~ '^lease (inspect|revoke)$' ]]; then
    echo leases
  fi
}

_ebbgate_or_names() {
  local kind="$(_ebbgate_kind)"
  if [[ -z "$kind" || "$PREFIX" == -* ]]; then
    _cyclopts_ebbgate "$@"
    return
  fi
  local -a names
  names=("${(@f)$(ebbgate --names "$kind" "$PREFIX" 2>/dev/null)}")
  compadd -a names
}

if [[ "${funcstack[1]}" == _ebbgate ]]; then
  _ebbgate_or_names "$@"
else
  compdef _ebbgate_or_names ebbgate
fi
"""
_FISH_LIMITS: Final = "(ebbgate --names limits (commandline -ct) 2>/dev/null)"
_FISH_LEASES: Final = "(ebbgate --names leases (commandline -ct) 2>/dev/null)"
_LIMIT_VERBS: Final = ("inspect", "update", "enable", "disable", "cool-down", "delete")


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Which shell.")],
    /,
    *,
    output: Output = "table",  # noqa: ARG001 - a script has one form only
) -> None:
    """Print the completion script of a shell.

    bash: ebbgate completion bash > ~/.local/share/bash-completion/completions/ebbgate

    zsh: ebbgate completion zsh > "${fpath[1]}/_ebbgate"

    fish: ebbgate completion fish > ~/.config/fish/completions/ebbgate.fish
    """
    from ebbgate.cli.main import application

    script = import_module(f"cyclopts.completion.{shell}").generate_completion_script(
        application(), "ebbgate"
    )
    more = {"bash": _BASH, "zsh": _ZSH, "fish": _fish()}[shell]
    sys.stdout.write(f"{script.rstrip()}\n{more}")


def _fish() -> str:
    """Return what fish is to know beside the words of cyclopts."""
    lines = ["", "# Names that there are, asked for when somebody presses tab."]

    def add(command: str, option: str, names: str) -> None:
        lines.append(f"complete -c ebbgate -n '__fish_ebbgate_using_command {command}' {option} -a '{names}'")

    for group in ("limit", "gcl"):
        for verb in _LIMIT_VERBS:
            add(f"{group} {verb}", "-f", _FISH_LIMITS)
    add("top", "-f", _FISH_LIMITS)
    for verb in ("inspect", "revoke"):
        add(f"lease {verb}", "-f", _FISH_LEASES)
    for command, option in (
        ("run", "-l limit"),
        ("run", "-s l"),
        ("run", "-l rate-limit"),
        ("lease ls", "-l limit"),
    ):
        add(command, f"{option} -x", _FISH_LIMITS)
    return "\n".join(lines) + "\n"
