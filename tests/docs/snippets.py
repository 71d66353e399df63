"""What the pages show is run: their Python as programs, their console lines in a shell, page by page.

The rules for who writes a page:

- A `python` block is a program of its own. Each comment `# prints: TEXT` in it names a line that it must
  print, in this order. A warning is an error.
- A `python title="NAME"` block is a file of that name, which a command below it runs.
- In a `console` block, `$ ` begins a command. The lines below it are all that it says, on both outputs; `...`
  stands for anything; no lines: anything. A command may fail only if `$ echo $?` follows and tells the code.
- A `sql` block is run by tests/stores/test_postgres_views.py, in a database that a server has filled.
- A `text` block is a drawing or a list; nothing is run. Another kind of block is an error.
- All blocks of a page share one store and one folder, both empty at first.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ebbgate.stores import open_store

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
)

LANGUAGES = {"python", "console", "text", "sql"}

# Commands that a page shows and that are not run here: command -> why.
NOT_RUN = {
    **dict.fromkeys(
        (
            "ebbgate serve",
            "ebbgate serve --host 0.0.0.0 --allowed-host gate.example.com --tls-cert gate.pem --tls-key gate.key",
            "ebbgate serve --host 10.0.0.7 --allowed-host gate.example.com --trusted-proxy 10.0.0.5",
            "curl http://127.0.0.1:4220/readyz",
            "EBBGATE_URL=ebbgate://127.0.0.1:4220 ebbgate limit ls",
            "EBBGATE_URL=ebbgates://gate.example.com:4220 EBBGATE_API_KEY=... ebbgate limit ls",
        ),
        "it runs until it is stopped: tests/server/test_serving.py starts servers and asks them",
    ),
    **dict.fromkeys(
        (
            "pip install '.[server]'",
            "pip install '.[server,postgres]'",
            "pip install '.[server,redis]'",
            "python3 -m venv /opt/ebbgate && /opt/ebbgate/bin/pip install '.[server]'",
            "cp deploy/ebbgate.service /etc/systemd/system/ && systemctl enable --now ebbgate",
            "docker build -f deploy/Dockerfile -t ebbgate .",
            "docker compose -f deploy/compose.yaml up -d",
        ),
        "it changes the machine: tests/server/test_deploy.py looks at the files",
    ),
    **dict.fromkeys(
        (
            "docker compose -f deploy/compose-several.yaml up -d",
            "docker build -f deploy/Dockerfile -t registry.example.com/ebbgate:0.1 .",
            "docker push registry.example.com/ebbgate:0.1",
            "kubectl create namespace ebbgate",
            "kubectl -n ebbgate create secret generic ebbgate --from-file=api-keys --from-file=store",
            "kubectl -n ebbgate create secret tls ebbgate-tls --cert=tls.pem --key=tls.key",
            "kubectl apply -k deploy/kubernetes",
            "kubectl -n ebbgate rollout status deployment/ebbgate",
        ),
        "it needs an engine or a cluster: tests/server/test_deploy_several.py looks at the files",
    ),
    **dict.fromkeys(
        (
            "createuser --pwprompt ebbgate",
            "createdb --owner ebbgate --encoding UTF8 --template template0 ebbgate",
        ),
        "they ask the database server of a machine; the tests of this page have one of their own",
    ),
    "curl -N -G http://127.0.0.1:4220/v1/events "
    """--data-urlencode 'views=[{"kind":"limits","show":"waiting"}]'""": "it never ends",
    "curl -N http://127.0.0.1:4220/v1/events": "it never ends: tests/server/rest/test_events.py watches",
    **dict.fromkeys(
        (
            "EBBGATE_URL=ebbgate://127.0.0.1:4220 ebbgate import prefect --url http://127.0.0.1:4200/api",
            "ebbgate serve --allowed-host prefect.example.com --trusted-proxy 127.0.0.1",
        ),
        "tests/prefect runs both, against a real server of Prefect's",
    ),
    "pip install '.[yaml]'": "the library is installed where the tests run",
    **dict.fromkeys(
        (
            "uv tool install ./packages/terraform-provider-ebbgate",
            "ebbgate-terraform install",
            "ebbgate-terraform doctor",
            "terraform init",
            "terraform apply",
            "terraform import ebbgate_limit.database database",
        ),
        "packages/terraform-provider-ebbgate/tests/test_page.py does what this page shows",
    ),
    "make demo": "tests/cli/test_demo.py runs it",
    "make simulate SEED=4711 STEPS=2000": "tests/simulation runs what it runs",
    "make simulate-long": "it runs until it is stopped",
    "make test": "it runs these tests",
    "make test-faults SEED=4711": "it runs tests/faults for longer",
    "python3 -m venv .venv && . .venv/bin/activate": "the tests run in an environment",
    "pip install .": "the package is installed where the tests run, and a network is not needed for them",
}

# Pages whose commands talk to a server: from their beginning, or from the command on that starts it. It is a real
# one, and stands for this address.
SERVED = {"docs/reference/rest.md", "docs/how-to/monitor.md"}
SERVING = {"docs/tutorial.md", "docs/how-to/move-to-a-server.md"}
SERVE = "ebbgate serve"
ADDRESS = "127.0.0.1:4220"

# Pages whose servers share a store. A real database stands for it, and a real server for each command that starts one.
SHARING = {
    "docs/how-to/several-servers.md": "postgresql://ebbgate@db.example.com/ebbgate",
    "docs/how-to/namespaces.md": "postgresql://ebbgate@db.example.com/ebbgate",
    "docs/how-to/fast-store.md": "redis://valkey.example.com:6379/0",
}
_SERVE_SHARING = re.compile(r"ebbgate serve --store (?P<store>\w+://\S+) --port (?P<port>\d+)")

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n"
    r"(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    body: str
    title: str | None = None  # the name of the file that it is

    def __str__(self) -> str:
        """Show the place as editors like it."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block, and what it says; "" when the page does not tell."""

    text: str
    output: str


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, match.start()) + 1, match["language"], match["body"], match["title"])
        for match in _FENCE.finditer(text)
    ]
    assert 2 * len(found) == len(re.findall(r"^ *```", text, re.MULTILINE)), f"{page}: a fence is not closed"
    return found


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a console block."""
    parts = re.split(r"^\$ ", block.body.replace("\\\n", " "), flags=re.MULTILINE)
    assert not parts[0], f"{block}: a console block begins with a command"
    for part in parts[1:]:
        text, _, output = part.partition("\n")
        yield Command(text.split("  #")[0].strip(), output.rstrip())


class Page:
    """Runs the blocks of one page."""

    def __init__(self, folder: Path) -> None:
        """Keep its store and its files in `folder`, which is empty."""
        self.folder = folder
        self.address = ADDRESS  # where a server is asked
        self.serve: Callable[[], str] | None = (
            None  # starts one and returns its address, where a page shows how
        )
        # starts one on a shared store, and returns its address
        self.serve_sharing: Callable[[str], str] | None = None
        self.servers: dict[str, str] = {}  # of those, and of the store: address on the page -> address here
        places = {
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
            "EBBGATE_URL": f"sqlite:///{folder}/docs.db",
        }
        open_store(places["EBBGATE_URL"]).close()  # commands that only read create none
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        terminal = {"COLUMNS": "100", "NO_COLOR": "1", "PATH": path, "PYTHONWARNINGS": "error"}
        # A page that runs pytest needs none of the plugins that these tests have installed, except one.
        quick = {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "-p xdist.plugin -p no:cacheprovider",
        }
        kept = {key: value for key, value in os.environ.items() if not key.startswith("EBBGATE_")}
        self.environment = {**kept, **places, **terminal, **quick}

    def run(self, block: Block) -> None:
        """Run a block and compare what it says."""
        if block.title is not None:
            (self.folder / block.title).write_text(block.body, encoding="utf-8")
        elif block.language == "python":
            self._run_python(block)
        elif block.language == "console":
            self._run_console(block)

    def _run_python(self, block: Block) -> None:
        program = self.folder / "snippet.py"
        program.write_text(block.body, encoding="utf-8")
        code, output = self._said([sys.executable, program.name])
        assert code == 0, f"{block}\n{output}"
        lines = iter(output.splitlines())
        for expected in re.findall(r"# prints: (.+)", block.body):
            assert any(matches(expected, line) for line in lines), (
                f"{block}: no line {expected!r} in\n{output}"
            )

    def _run_console(self, block: Block) -> None:
        shown = [command for command in commands(block) if self._is_run(command)]
        code = 0
        for number, command in enumerate(shown, start=1):
            before = code
            if command.text == SERVE and self.serve is not None:
                self.address = self.serve()
                continue
            shared = _SERVE_SHARING.fullmatch(command.text)
            if shared is not None and self.serve_sharing is not None:
                self.servers[f"127.0.0.1:{shared['port']}"] = self.serve_sharing(shared["store"])
                continue
            text = command.text.replace(ADDRESS, self.address)
            for shown_there, here in self.servers.items():
                text = text.replace(shown_there, here)
            code, output = self._said(["bash", "-c", f"(exit {before})\n{text}"])
            following = shown[number].text if number < len(shown) else ""
            assert code == 0 or following == "echo $?", (
                f"{block}: $ {command.text}\nexit code {code}\n{output}"
            )
            if command.output:
                told = f"{block}: $ {command.text}\n{output}\ninstead of\n{command.output}"
                assert matches(command.output, output.rstrip()), told

    def _is_run(self, command: Command) -> bool:
        return command.text not in NOT_RUN or (command.text == SERVE and self.serve is not None)

    def _said(self, command: list[str]) -> tuple[int, str]:
        """Run a command to its end; return its exit code and what it wrote."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout


def matches(expected: str, output: str) -> bool:
    """Tell whether an output is as expected; `...` stands for anything, spaces at line ends do not count."""
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    trimmed = "\n".join(line.rstrip() for line in output.splitlines())
    return re.fullmatch(pattern, trimmed, re.DOTALL) is not None
