"""`ebbgate completion`: the script that teaches a shell the commands and flags."""

import sys
from importlib import import_module
from typing import Annotated, Literal

from cyclopts import Parameter

from ebbgate.cli.options import Output


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
    sys.stdout.write(f"{script}\n")
