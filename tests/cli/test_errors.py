"""What goes wrong is told in one line on stderr, with the exit code that says which kind it is."""

import re
import subprocess
from pathlib import Path

import pytest

from ebbgate import errors
from ebbgate.cli import exits, limits
from ebbgate.cli.main import wants_json
from ebbgate.client.client import Client
from tests.cli.support import COMMAND, Cli, Real

USAGE = """
limit create
limit create db
limit create --limit 5
limit create db --limit
limit create db --limit five
limit create db --limit 1.5
limit create db --limit -1
limit create db --limit 1000000001
limit create db --limit 5 --limit 6
limit create db other --limit 5
limit create a/b --limit 5
limit create . --limit 5
limit create db --limit 5 --rate 5/fortnight
limit create db --limit 5 --rate 5
limit create db --limit 5 --rate 5/s --slot-decay-per-second 5
limit create db --limit 5 --slot-decay-per-second nan
limit create db --limit 5 --slot-decay-per-second inf
limit create db --limit 5 --slot-decay-per-second -1
limit create db --limit 5 --slot-decay-per-second 1e7
limit create db --limit 5 --slot-decay-per-second x
limit create db --limit 5 --disable=maybe
limit create db --limit 5 --no-disable
limit create db --limit 5 --colour red
limit create db --limit 5 -o yaml
limit create db --limit 5 -x
limit update here
limit update here --enable --disable
limit update here --limit x
limit update here --name a/b
limit ls extra
limit inspect
limit frobnicate
lease ls --state asleep
lease revoke
lease inspect a b
frobnicate
run
run --limit here
run --limit here true
run --limit here --
run -- true
run --limit here --label nothing -- true
run --limit here --occupy 0 -- true
run --limit here --occupy x -- true
run --limit here --timeout -1 -- true
run --limit here --timeout nan -- true
run --limit here --timeout soon -- true
run --limit here --occupy 6 --strict -- true
run --rate-limit here -- true
run --limit a/b -- true
completion tcsh
completion
doctor now
""".strip().splitlines()


# What only the store knows comes after `run` has forked its guard, which a test does not do to pytest.
LATE = [line for line in USAGE if "--occupy 6" in line or "--rate-limit" in line]


@pytest.mark.parametrize("line", [line for line in USAGE if line not in LATE])
def test_a_line_that_cannot_be_right_exits_2(cli: Cli, line: str) -> None:
    cli("limit create here --limit 5")
    check_usage(cli, line)


def test_a_run_that_the_store_refuses_for_ever_exits_2(real: Real) -> None:
    real("limit", "create", "here", "--limit", "5")
    for line in LATE:
        check_usage(lambda *words: real(*(words[0].split() if len(words) == 1 else words)), line)


def check_usage(cli: Cli, line: str) -> None:
    refused = cli(line)
    assert (refused.code, refused.out) == (2, ""), line
    assert re.fullmatch(r"ebbgate: [^\n]+\n", refused.err), line
    if "-o yaml" not in line:
        words = line.split()
        problem = cli(words[0], "-o", "json", *words[1:])
        assert problem.code == 2, line
        assert problem.problem()["code"] in {
            "usage",
            "invalid_request",
            "invalid_limit",
            "never_fits",
            "no_slot_decay",
        }


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        ("limit inspect nope", 3, "limit_not_found"),
        ("limit update nope --limit 5", 3, "limit_not_found"),
        ("limit enable nope", 3, "limit_not_found"),
        ("limit disable nope", 3, "limit_not_found"),
        ("limit delete nope --yes", 3, "limit_not_found"),
        ("lease ls --limit nope", 3, "limit_not_found"),
        ("lease inspect 00000000-0000-4000-a000-000000000000", 3, "lease_not_found"),
        ("lease revoke 00000000-0000-4000-a000-000000000000", 3, "lease_not_found"),
        ("lease revoke nope", 3, "lease_not_found"),
        ("limit create here --limit 5", 4, "limit_exists"),
        ("limit update here --name there", 4, "limit_exists"),
    ],
)
def test_what_is_missing_exits_3_and_what_collides_exits_4(cli: Cli, line: str, code: int, word: str) -> None:
    cli("limit create here --limit 5")
    cli("limit create there --limit 5")
    told = cli(line)
    assert (told.code, told.out) == (code, "")
    assert "; " in told.err or "(" in told.err, "it says what to do next"
    assert cli(f"{line} -o json").problem()["code"] == word


def test_every_error_has_its_exit_code() -> None:
    made: dict[int, list[errors.EbbgateError]] = {
        1: [errors.EbbgateError("x"), errors.StoreUnavailable("x"), errors.ServerUnavailable("x"),
            errors.LeaseLost("id", ["a"], "revoked"), errors.WaiterRemoved("id", ["a"], "revoked"),
            errors.IdReused("id", "x"), errors.InternalError("x")],
        2: [exits.UsageError("x"), errors.InvalidRequest("x"), errors.InvalidLimit("x"),
            errors.NeverFits("a", slots=2, limit=1), errors.NoSlotDecay(["a"])],
        3: [errors.LimitNotFound("a"), errors.LeaseNotFound("a")],
        4: [errors.LimitExists("a"), errors.LimitInUse("a", holders=1, waiters=0)],
        5: [errors.NotAuthorized("x")],
        75: [errors.AcquireTimeout(["a"], 0), errors.NoSlotFree(["a"], 0)],
        124: [errors.AcquireTimeout(["a"], 0.1)],
    }  # fmt: skip
    assert {code: [exits.exit_code(error) for error in of] for code, of in made.items()} == {
        code: [code] * len(of) for code, of in made.items()
    }


def test_a_typing_mistake_is_answered_with_what_was_perhaps_meant(cli: Cli) -> None:
    cli("limit create database --limit 5")
    assert 'Did you mean "limit"?' in cli("limt ls").err
    assert 'Did you mean "create"?' in cli("limit creat x").err
    assert "Did you mean --limit instead of --limt?" in cli("limit create x --limt 5").err
    assert "Did you mean --output?" in cli("limit ls --ouput json").err
    assert "did you mean 'database'?" in cli("limit inspect databse").err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("limit create db", "ebbgate: --limit is missing. See: ebbgate limit create --help"),
        ("limit create --limit 5", "ebbgate: NAME is missing. See: ebbgate limit create --help"),
        ("limit create db --limit", "ebbgate: --limit needs a value. See: ebbgate limit create --help"),
        ("gcl ls --x=1.5", "ebbgate: unknown option: --x. See: ebbgate gcl ls --help"),
        ("limit ls x y", "ebbgate: unexpected 'x' 'y'. See: ebbgate limit ls --help"),
    ],
)  # fmt: skip
def test_usage_errors_read_like_sentences(cli: Cli, line: str, said: str) -> None:
    assert cli(line).err == said + "\n"
    assert "-l: '1.5' is no whole number." in cli("gcl create x -l 1.5").err


def test_what_was_meant_for_the_command_is_not_taken_for_json() -> None:
    assert wants_json(["limit", "ls", "-o", "json"])
    assert wants_json(["limit", "ls", "--output=json"])
    assert not wants_json(["run", "--limit", "x", "--", "kubectl", "-o", "json"])
    assert not wants_json(["limit", "create", "json", "-o"])


@pytest.mark.parametrize("content", [b"no database at all" * 300, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_store_is_named_in_one_line(
    cli: Cli, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(content)
    monkeypatch.setenv("EBBGATE_URL", f"sqlite:///{broken}")
    told = cli("limit ls")
    assert (told.code, told.out) == (1, "")
    assert re.fullmatch(r"ebbgate: the store [^\n]*broken\.db [^\n]+\n", told.err)
    assert cli("limit ls -o json").problem()["code"] == "store_unavailable"


@pytest.mark.parametrize(
    "bad", ["nonsense", "sqlite://x", "sqlite:///", "postgresql://x", "ebbgate://host:4220"]
)
def test_an_address_that_cannot_be_reached_is_a_line_too(
    cli: Cli, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EBBGATE_URL", bad)
    monkeypatch.setenv("EBBGATE_CONNECT_TIMEOUT", "0.3")
    told = cli("limit ls")
    assert told.code in {1, 2}
    assert len(told.err.splitlines()) == 1


def test_a_defect_shows_one_line_and_its_traceback_only_on_request(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_client: Client, _prefix: str = "") -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(Client, "list_limits", fail)
    told = cli("limit ls")
    assert told.code == 1
    assert "unexpected ZeroDivisionError: by zero" in told.err
    assert "report it" in told.err
    assert "Traceback" not in told.err
    assert cli("limit ls -o json").problem()["code"] == "internal"
    monkeypatch.setenv("EBBGATE_DEBUG", "1")
    assert "Traceback" in cli("limit ls").err


def test_ctrl_c_exits_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> Client:
        raise KeyboardInterrupt

    monkeypatch.setattr(limits, "existing_client", interrupt)
    assert cli("limit ls")[:2] == (130, "")


def test_a_reader_that_leaves_early_is_no_error_to_speak_of(real: Real, cli: Cli) -> None:
    for number in range(20):
        cli(f"limit create {'n' * 190}{number} --limit 5")
    process = subprocess.Popen(
        [COMMAND, "limit", "ls", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=real.environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process:
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_output_that_cannot_be_written_is_an_error(real: Real) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [COMMAND, "limit", "ls", "-o", "json"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=real.environment,
        )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr.startswith("ebbgate: cannot write the output: ")
        or '"detail":"cannot write' in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1


def test_options_may_stand_anywhere(cli: Cli) -> None:
    assert cli("limit create -o json --limit 5 db").code == 0
    assert cli("limit -o json ls").code in {0, 2}
