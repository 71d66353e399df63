"""Examples that the help of each command ends with."""

from typing import Final

_EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "limit": (
        "limit create database --limit 5",
        "limit create api --limit 60 --rate 60/hour",
        "limit update database --limit 10",
        "gcl create api --limit 5 --slot-decay-per-second 1.0",
    ),
    "limit create": (
        "limit create database --limit 5",
        "limit create api --limit 60 --rate 60/hour",
        "gcl create api --limit 5 --slot-decay-per-second 1.0",
    ),
    "limit ls": ("limit ls", "limit ls --prefix team-a. -o json"),
    "limit inspect": ("limit inspect database", "limit inspect database -o json --file database.json"),
    "limit update": ("limit update database --limit 10", "limit update api --rate 100/min"),
    "limit enable": ("limit enable database",),
    "limit disable": ("limit disable database",),
    "limit cool-down": ('limit cool-down api 30 --why "429 from the vendor"', "limit cool-down api 0"),
    "limit delete": ("limit delete database", "limit delete database --force --yes"),
    "lease": ("lease ls --limit database", "lease revoke 5f0e3c1a"),
    "lease ls": ("lease ls", "lease ls --limit database --state waiting"),
    "lease inspect": ("lease inspect 5f0e3c1a",),
    "lease revoke": ("lease revoke 5f0e3c1a",),
    "run": (
        "run --limit database -- pg_dump shop",
        "run --limit gpu --occupy 2 --timeout 0 -- python train.py",
        "run --limit database --rate-limit api -- ./sync.sh",
    ),
    "top": ("top", "top database", "top --sort waiting --once"),
    "serve": (
        "serve",
        "serve --store sqlite:////var/lib/ebbgate/ebbgate.db --port 4220",
        "serve --store postgresql://ebbgate@db.example.com/limits --store-upgrade never",
        (
            "serve --host 0.0.0.0 --allowed-host gate.example.com \\\n"
            "      --api-keys-file keys --tls-cert gate.pem --tls-key gate.key"
        ),
    ),
    "apply": (
        "apply -f limits.yaml --dry-run",
        "apply -f limits.yaml --prune --prefix team-a.",
        "export > limits.yaml",
    ),
    "import prefect": (
        "import prefect --url http://localhost:4200/api",
        "import prefect --url http://localhost:4200/api --dry-run",
    ),
    "store": (
        "store check --store postgresql://ebbgate@db.example.com/limits",
        "store upgrade --store postgresql://ebbgate@db.example.com/limits",
    ),
    "store check": (
        "store check --store postgresql://ebbgate@db.example.com/limits",
        "store check --store rediss://cache.example.com:6380/0?namespace=team-a -o json",
    ),
    "store upgrade": ("store upgrade --store postgresql://ebbgate@db.example.com/limits",),
    "completion": ("completion bash > ~/.local/share/bash-completion/completions/ebbgate",),
    "demo": ("demo", "demo --seconds 30"),
    "doctor": ("doctor", "doctor -o json"),
    "export": ("export > limits.yaml", "export -o json"),
}


_NOTES: Final = {
    "serve": """
An option goes before its variable. EBBGATE_API_KEYS holds API keys too,
comma separated. SIGTERM ends it, SIGHUP reads the certificate anew.
""",
}


def examples(command: str) -> str:
    """Return what the help of a command ends with."""
    lines = "\n\n".join(f"  ebbgate {line}" for line in _EXAMPLES[command])
    return f"Examples:\n\n{lines}\n{_NOTES.get(command, '')}"
