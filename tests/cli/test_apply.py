"""`ebbgate apply` and `ebbgate export`: limits as code, in one file of one form."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbgate.cli.apply import Applied
from ebbgate.cli.limits_file import Entry, File, Terms, read_limits, written
from ebbgate.core.limits import check_name
from ebbgate.errors import InvalidLimit, InvalidRequest
from ebbgate.version import requirement
from ebbgate.wire import LimitInfo
from tests.cli.support import COMMAND, Cli, Real

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "docs" / "reference" / "limits.schema.json"

LIMITS = """\
limits:
  - name: database
    limit: 5
    description: the main one
  - name: api
    limit: 60
    rate: 60/hour
  - name: trickle
    limit: 3
    slot_decay_per_second: 1e-9
    active: false
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "limits.yaml"
    path.write_text(LIMITS)
    return path


BOMB = "a: &a0 [1]\n" + "".join(f"a{n}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40))


def limits_of(cli: Cli) -> dict[str, LimitInfo]:
    return {limit.name: limit for limit in cli("limit ls -o json").parsed(list[LimitInfo])}


def results(cli: Cli, line: str) -> dict[str, str]:
    return {entry.name: entry.result for entry in cli(f"{line} -o json").parsed(list[Applied])}


def test_a_file_makes_limits_and_once_more_changes_nothing(cli: Cli, file: Path) -> None:
    made = cli(f"apply -f {file}")
    assert (made.code, made.err) == (0, "3 created\n")
    limits = limits_of(cli)
    assert limits["database"].description == "the main one"
    assert (limits["api"].limit, limits["api"].slot_decay_per_second) == (60, 1 / 60)
    assert (limits["trickle"].active, limits["trickle"].slot_decay_per_second) == (False, 1e-9)
    again = cli(f"apply -f {file}")
    assert (again.code, again.out, again.err) == (0, "", "3 unchanged\n")
    assert limits_of(cli) == limits


def test_what_differs_is_changed_and_what_is_left_out_is_as_in_a_new_limit(cli: Cli, file: Path) -> None:
    cli(f"apply -f {file}")
    before = limits_of(cli)
    file.write_text("limits:\n  - {name: database, limit: 7}\n  - {name: api, limit: 60, rate: 1/s}\n")
    said = cli(f"apply -f {file}")
    assert "limit 5 -> 7, description 'the main one' -> ''" in said.out
    assert "slot_decay_per_second 0.0166667 (1/min) -> 1 (1/s)" in said.out
    after = limits_of(cli)
    assert (after["database"].limit, after["database"].description) == (7, "")
    assert after["database"].id == before["database"].id
    assert after["trickle"] == before["trickle"]


def test_a_dry_run_only_tells(cli: Cli, file: Path) -> None:
    cli("limit create database --limit 4")
    cli("limit create old --limit 1")
    before = limits_of(cli)
    said = cli(f"apply -f {file} --prune --dry-run")
    assert said.err == "nothing was done; would be: 2 created, 1 changed, 1 deleted\n"
    assert "would be deleted" in said.out
    assert limits_of(cli) == before
    assert results(cli, f"apply -f {file} --prune --dry-run") == {
        "database": "changed", "api": "created", "trickle": "created", "old": "deleted",
    }  # fmt: skip


def test_only_prune_deletes_and_only_what_begins_so(cli: Cli, file: Path) -> None:
    for name in ("a.old", "b.old"):
        cli(f"limit create {name} --limit 1")
    file.write_text("limits: [{name: a.new, limit: 1}]\n")
    assert results(cli, f"apply -f {file}") == {"a.new": "created"}
    assert set(limits_of(cli)) == {"a.new", "a.old", "b.old"}
    assert results(cli, f"apply -f {file} --prune --prefix a. --yes") == {
        "a.new": "unchanged",
        "a.old": "deleted",
    }
    assert set(limits_of(cli)) == {"a.new", "b.old"}
    other = cli(f"apply -f {file} --prune --prefix b. --yes")
    assert other.code == 2
    assert "'a.new' does not begin with --prefix 'b.'; nothing was done" in other.err
    assert set(limits_of(cli)) == {"a.new", "b.old"}


def test_a_limit_in_use_is_kept_unless_forced(cli: Cli, real: Real, file: Path) -> None:
    file.write_text("limits: []\n")
    for name in ("busy", "idle"):
        cli(f"limit create {name} --limit 2")
    with real.holding("--limit", "busy"):
        assert results(cli, f"apply -f {file} --prune --dry-run") == {"busy": "kept", "idle": "deleted"}
        kept = cli(f"apply -f {file} --prune --yes")
        assert kept.code == 4
        assert "limit 'busy' has 1 holder and 0 waiters" in kept.err
        assert set(limits_of(cli)) == {"busy"}
        assert cli(f"apply -f {file} --force").code == 2
        assert results(cli, f"apply -f {file} --prune --force --yes") == {"busy": "deleted"}


def test_live_state_stays(cli: Cli, real: Real, file: Path) -> None:
    cli(f"apply -f {file}")
    with real.holding("--limit", "database"):
        file.write_text(LIMITS.replace("limit: 5", "limit: 1"))
        cli(f"apply -f {file}")
        assert limits_of(cli)["database"].held_slots == 1


def test_what_is_exported_is_what_is_applied(cli: Cli, file: Path, tmp_path: Path) -> None:
    cli(f"apply -f {file}")
    before = limits_of(cli)
    for name, flags in (("out.yaml", ""), ("out.json", "")):
        assert cli(f"export -f {tmp_path / name} {flags}").err == f"wrote {tmp_path / name}\n"
    assert cli("export").out == (tmp_path / "out.yaml").read_text()
    assert cli("export -o json").out == (tmp_path / "out.json").read_text()
    assert "slot_decay_per_second: 0.016666666666666666  # 60/hour" in cli("export").out
    assert [entry.name for entry in cli("export -o json").parsed(File).limits] == sorted(before)
    assert len(cli("export -o json --prefix api").parsed(File).limits) == 1
    for name in before:
        cli(f"limit delete {name} --yes")
    for name in ("out.yaml", "out.json"):
        assert cli(f"apply -f {tmp_path / name}").code == 0
        for limit in limits_of(cli).values():
            same = before[limit.name]
            assert (limit.limit, limit.slot_decay_per_second) == (same.limit, same.slot_decay_per_second)
            assert (limit.active, limit.description) == (same.active, same.description)
    assert cli("limit delete api --yes").code == 0
    assert cli(f"apply -f {tmp_path / 'out.json'}").err == "1 created, 2 unchanged\n"


def test_stdin_is_read(real: Real) -> None:
    done = subprocess.run(
        [COMMAND, "apply", "-f", "-"], input=LIMITS, text=True, capture_output=True, check=True,
        env=real.environment,
    )  # fmt: skip
    assert done.stderr == "3 created\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limits:\n  - name: a\n    limit: five\n", "limits.yaml:3: limits[0].limit: Expected `int`, got `str`"),
        ("limits:\n  - name: a\n    limit: -1\n", "limits.yaml:2: limits[0] ('a'): limit must be from 0"),
        ("limits:\n  - limit: 1\n", "limits.yaml:2: limits[0]: Object missing required field `name`"),
        ("limits:\n  - {name: a, limit: 1, slots: 2}\n", "limits[0]: Object contains unknown field `slots`"),
        ("limits:\n  - {name: a, limit: 1}\n  - {name: a, limit: 2}\n", "limits.yaml:3: limits[1]: 'a' is there twice"),
        ("limits:\n  - name: a\n    limit: 1\n    limit: 2\n", "limits.yaml:4: 'limit' is given twice"),
        ("limits:\n  - {name: a, limit: 1, rate: often}\n", "'often' is not a rate; write it like 5/s"),
        ("limits:\n  - {name: a, limit: 1, rate: 5/s, slot_decay_per_second: 5}\n", "say the same: give one"),
        ("limits:\n  - {name: a/b, limit: 1}\n  - {name: c, limit: -1}\n", "limits[1] ('c'): limit must be"),
        ("limits: [\n", "limits.yaml:2 is not YAML"),
        ("", "limits.yaml: Expected `object`, got `null`"),
        ("[1, 2]\n", "Expected `object`, got `array`"),
        ("limits: &a [*a]\n", "limits.yaml"),
        (BOMB, "unknown"),
        (f"limits:\n  - {{name: a, limit: {'9' * 5000}}}\n", "limits.yaml is not YAML: Exceeds the limit"),
        ("a: !!python/object/apply:os.system [exit]\n", "limits.yaml"),
        ('{"limits": [', "limits.yaml is not JSON"),
        ('{"limits": [], "limits": []}', "'limits' is given twice"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_nothing_is_done(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("limits.yaml").write_text(text)
    refused = cli("apply -f limits.yaml")
    assert refused.code == 2, refused
    assert said in refused.err
    assert limits_of(cli) == {}


def test_a_file_that_cannot_be_read_is_told(cli: Cli, tmp_path: Path) -> None:
    assert "cannot be read: No such file" in cli(f"apply -f {tmp_path / 'none.yaml'}").err
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\0")
    assert "cannot be read" in cli(f"apply -f {tmp_path / 'binary.yaml'}").err
    assert "cannot write" in cli(f"export -f {tmp_path}").err


def test_yaml_needs_its_library_and_json_does_not(
    cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    refused = cli(f"apply -f {file}")
    assert refused.code == 1
    assert f"pip install {requirement('yaml')}" in refused.err
    (tmp_path / "limits.json").write_text('{"limits": [{"name": "a", "limit": 1}]}')
    assert cli(f"apply -f {tmp_path / 'limits.json'}").code == 0
    assert cli("export").out == "limits:\n  - name: a\n    limit: 1\n"


def test_yaml_is_read_as_version_1_2_has_it() -> None:
    text = """
    limits:
      - {name: no, limit: 1, description: 12:30}
      - {name: 2024-01-01, limit: 010, slot_decay_per_second: 1e-3}
      - {name: 'true', limit: 0}
    """
    assert read_limits(text, "stdin") == [
        Terms("no", 1, 0.0, True, "12:30"),
        Terms("2024-01-01", 10, 0.001, True, ""),
        Terms("true", 0, 0.0, True, ""),
    ]


def is_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except InvalidLimit:
        return False


entries = st.builds(
    Entry,
    name=st.text(min_size=1, max_size=12).filter(is_name)
    | st.sampled_from(["no", "1e5", "12:30", "~", "- a", "a: b"]),
    limit=st.integers(0, 10**9),
    slot_decay_per_second=st.just(0.0) | st.floats(1e-9, 1e6),
    active=st.booleans(),
    description=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)


@given(st.lists(entries, max_size=5, unique_by=lambda entry: entry.name))
def test_whatever_is_written_is_read_back(limits: list[Entry]) -> None:
    terms = [Terms(e.name, e.limit, float(e.slot_decay_per_second), e.active, e.description) for e in limits]
    assert read_limits(written(File(limits=limits)), "x.yaml") == terms
    assert read_limits(msgspec.json.encode(File(limits=limits)).decode(), "x.json") == terms


@given(st.text(max_size=80) | st.text("limts:-[]{}&*!|>#'\"\n name", max_size=60))
def test_no_text_makes_the_reader_fail_otherwise_than_in_words(text: str) -> None:
    with suppress(InvalidRequest):
        read_limits(text, "x.yaml")


def test_the_published_schema_is_that_of_the_file_and_fits_what_is_accepted(cli: Cli) -> None:
    shown = json.loads(cli("export --schema").out)
    assert json.loads(SCHEMA.read_text()) == shown, (
        "ebbgate export --schema -f docs/reference/limits.schema.json"
    )
    validator = jsonschema_rs.Draft202012Validator(shown)
    good = [{"name": "a", "limit": 1}, {"name": "b", "limit": 0, "rate": "60/hour", "active": False}]
    assert validator.is_valid({"limits": good, "$schema": "limits.schema.json"})
    bad = [
        {"name": "a"}, {"name": "a/b", "limit": 1}, {"name": "a", "limit": -1}, {"name": "a", "limit": 1.5},
        {"name": "a", "limit": 1, "rate": "often"}, {"name": "a", "limit": 1, "slot_decay_per_second": 1e-10},
        {"name": "a", "limit": 1, "rate": "1/s", "slot_decay_per_second": 1}, {"name": "a", "limit": 1, "x": 1},
    ]  # fmt: skip
    for entry in bad:
        assert not validator.is_valid({"limits": [entry]}), entry
        with pytest.raises(InvalidRequest):
            read_limits(json.dumps({"limits": [entry]}), "x.json")
