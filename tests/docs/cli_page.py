"""Writes the page about the command line from the commands themselves: python -m tests.docs.cli_page.

A test compares; after a change of a command, run this once more.
"""

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.snippets import ROOT

PAGE = ROOT / "docs" / "reference" / "cli.md"

HEAD = """\
# Command line

What `ebbgate COMMAND --help` tells, on one page. Written by `python -m tests.docs.cli_page`; a test compares.

- Where it connects is told by `EBBGATE_URL`, see [configuration](configuration.md).
- `-o json` prints the API's own shapes on stdout and nothing else. Messages go to stderr. Without a terminal,
  commands that ask for confirmation need `--yes`.
- [Exit codes](errors.md#exit-codes-of-the-command-line) tell scripts what happened.
- `gcl` is another name for `limit`, with the verbs and flags that Prefect's users know.
- A mistyped command, option or limit is answered with the one that was perhaps meant.
- `EBBGATE_DEBUG=1` shows the traceback of an error, `NO_COLOR` takes the colours away.

```console
$ ebbgate limit creat database --limit 5
ebbgate: ...create...
$ echo $?
2
$ ebbgate limit create database --limit 5 -o json
{...
  "name": "database",
  "limit": 5,
...}
```
"""

# Options that every command has.
COMMON = {"--output, -o CHOICE"}


def page() -> str:
    """Return what the page is to be."""
    # A process of its own: reading the commands imports all of them.
    program = (
        "from ebbgate.cli.main import application;"
        "print(application().generate_docs(output_format='markdown', recursive=True))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    told = told[told.index("\n## ebbgate ") :]
    told = re.sub(
        r"```console\n(.*?)```", lambda found: f"```text\n{_usage(found[1])}```", told, flags=re.DOTALL
    )
    lines = [_line(line) for line in told.splitlines() if not any(f"`{one}`" in line for one in COMMON)]
    told = re.sub(r"\*\*Parameters\*\*:\n\n(?!\*)", "", "\n".join(lines) + "\n")
    told = re.sub(
        r"\n{3,}", "\n\n", told.replace("**Parameters**:", "Options:").replace("**Arguments**:", "Arguments:")
    )
    return HEAD + told.rstrip() + "\n"


def _usage(text: str) -> str:
    return re.sub(r"\b(\w+) \1\b", r"\1", text)  # it repeats the command where the usage names it


def _line(line: str) -> str:
    line = re.sub(r", --no-[a-z-]+`", "`", line)  # there are none
    line = re.sub(r" \*\[default: (False|\"\")\]\*", "", line)
    line = line.replace("**Commands**:", "Commands:")
    return line.replace("**[required]**", "Required.").rstrip()


if __name__ == "__main__":
    Path(PAGE).write_text(page(), encoding="utf-8")
