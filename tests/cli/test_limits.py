"""`ebbgate limit` and its alias `gcl`: every verb, in words and as JSON."""

from pathlib import Path

import msgspec
import pytest

from ebbgate.wire import LimitInfo
from ebbgate.wire.words import rate
from tests.cli.support import Cli, Real, Result


def test_create_prints_the_limit_as_the_api_shows_it(cli: Cli) -> None:
    made = cli("limit create db --limit 5 -o json").parsed(LimitInfo)
    assert (made.name, made.limit, made.active, made.slot_decay_per_second) == ("db", 5, True, 0.0)
    assert cli("limit inspect db --output json").parsed(LimitInfo) == made
    assert cli("limit inspect db --output=json").parsed(LimitInfo) == made


def test_json_alone_stands_on_stdout_and_words_on_stderr(cli: Cli) -> None:
    for line in ("create db -l 5", "update db -l 6", "enable db", "disable db"):
        json = cli(f"gcl {line} -o json") if "create" not in line else cli("gcl create db2 -l 5 -o json")
        assert json.err == ""
        json.parsed(LimitInfo)
        words = cli(f"gcl {line}")
        assert words.out == ""
        assert words.err
    assert cli("limit ls -o json").err == ""
    assert cli("limit delete db --yes -o json") == Result(0, "", "")


def test_create_names_the_next_step(cli: Cli) -> None:
    assert "ebbgate run --limit db -- COMMAND" in cli("limit create db --limit 5").err
    assert "ebbgate run --rate-limit api -- COMMAND" in cli("limit create api --limit 5 --rate 5/s").err
    assert "ebbgate limit enable off" in cli("limit create off --limit 5 --disable").err


@pytest.mark.parametrize(("rate", "answer"), [("0/s", "would never return a slot"), ("90", "write 90/s")])
def test_a_rate_of_zero_or_without_a_unit_is_refused_with_what_to_write(
    cli: Cli, rate: str, answer: str
) -> None:
    for line in (f"create new --limit 5 --rate {rate}", f"update api --rate {rate}"):
        cli("limit create api --limit 5 --rate 5/s")
        refused = cli(f"limit {line}")
        assert refused.code == 2
        assert answer in refused.err


@pytest.mark.parametrize(
    ("flag", "decay"),
    [
        ("--slot-decay-per-second 1.0", 1.0),
        ("--slot-decay-per-second=0.5", 0.5),
        ("--rate 60/hour", 1 / 60),
        ("--rate 5/s", 5.0),
        ("--rate 1000/day", 1000 / 86_400),
    ],
)
def test_a_decay_is_given_as_a_number_or_as_a_rate(cli: Cli, flag: str, decay: float) -> None:
    assert cli(f"limit create api --limit 5 {flag} -o json").parsed(LimitInfo).slot_decay_per_second == decay
    cli("limit create other --limit 5")
    assert cli(f"limit update other {flag} -o json").parsed(LimitInfo).slot_decay_per_second == decay


def test_every_field_can_be_given_and_changed(cli: Cli) -> None:
    made = cli("limit", "create", "db", "-l", "5", "--disable", "--description", "the main one", "-o", "json")
    before = made.parsed(LimitInfo)
    assert (before.active, before.description) == (False, "the main one")
    changed = cli(
        "limit", "update", "db", "--name", "database", "-l", "7", "--rate", "7/min", "--description", "",
        "--enable", "-o", "json",
    ).parsed(LimitInfo)  # fmt: skip
    assert (changed.id, changed.name, changed.limit, changed.active) == (before.id, "database", 7, True)
    assert (changed.description, changed.slot_decay_per_second) == ("", 7 / 60)


def test_what_is_not_given_does_not_change(cli: Cli) -> None:
    before = cli("limit create db --limit 5 --rate 1/s --description x --disable -o json").parsed(LimitInfo)
    after = cli("limit update db --limit 0 -o json").parsed(LimitInfo)
    assert after == msgspec.structs.replace(before, limit=0, updated=after.updated)


def test_a_limit_goes_by_its_name_or_its_id(cli: Cli) -> None:
    made = cli("limit create db --limit 5 -o json").parsed(LimitInfo)
    assert cli(f"limit inspect {made.id} -o json").parsed(LimitInfo) == made
    assert cli(f"limit update {made.id} -l 6").code == 0
    assert cli(f"limit disable {made.id}").code == 0
    assert cli(f"limit enable {made.id}").code == 0
    assert cli(f"limit delete {made.id} --yes").code == 0
    assert cli("limit ls -o json").parsed(list[LimitInfo]) == []


def test_enable_and_disable_may_be_repeated(cli: Cli) -> None:
    cli("limit create db --limit 5")
    for verb, active in (("disable", False), ("disable", False), ("enable", True), ("enable", True)):
        assert cli(f"limit {verb} db -o json").parsed(LimitInfo).active is active


def test_ls_is_sorted_by_name_and_filtered_by_prefix(cli: Cli) -> None:
    for name in ("team-b", "other", "team-a"):
        cli(f"limit create {name} --limit 1")
    listed = cli("limit ls -o json").parsed(list[LimitInfo])
    assert [limit.name for limit in listed] == ["other", "team-a", "team-b"]
    listed = cli("limit ls --prefix team- -o json").parsed(list[LimitInfo])
    assert [limit.name for limit in listed] == ["team-a", "team-b"]


def test_ls_shows_one_line_a_limit_and_nothing_is_cut(cli: Cli) -> None:
    long = "n" * 200
    cli(f"limit create {long} --limit 1000000000 --rate 60/hour")
    cli("limit create api --limit 60 --rate 60/hour --disable")
    lines = cli("limit list").out.splitlines()
    assert lines[0].split() == ["NAME", "LIMIT", "ACTIVE", "SLOTS", "WAITING", "DECAY", "ENABLED"]
    assert lines[1].split() == ["api", "60", "0/60", "-", "60/hour", "no"]
    assert lines[2].split() == [long, "1000000000", "0/1000000000", "-", "1/min", "yes"]


def test_an_empty_list_says_what_to_do_next(cli: Cli) -> None:
    empty = cli("limit ls")
    assert (empty.code, empty.out) == (0, "")
    assert "ebbgate limit create NAME" in empty.err
    assert "ebbgate limit ls" in cli("limit ls --prefix x").err
    assert cli("limit ls -o json") == Result(0, "[]\n", "")


def test_inspect_tells_everything_of_a_limit(cli: Cli) -> None:
    cli(
        "limit",
        "create",
        "api",
        "--limit",
        "60",
        "--rate",
        "60/hour",
        "--description",
        "of the [bold]shop[/]",
    )
    shown = cli("limit inspect api").out
    for part in (
        "60 slots",
        "of the [bold]shop[/]",
        "60/hour",
        "one slot every 1min",
        "0/60 (0 held, 0 spent)",
    ):
        assert part in shown
    cli("limit create closed --limit 0 --disable")
    shown = cli("limit inspect closed").out
    assert "blocks every acquisition" in shown
    assert "it does not block" in shown


def test_inspect_writes_json_to_a_file(cli: Cli, tmp_path: Path) -> None:
    made = cli("limit create db --limit 5 -o json").parsed(LimitInfo)
    assert cli(f"gcl inspect db -o json -f {tmp_path}/db.json").out == ""
    assert Result(0, (tmp_path / "db.json").read_text(), "").parsed(LimitInfo) == made
    assert cli(f"gcl inspect db -f {tmp_path}/db.json").code == 2
    assert cli(f"gcl inspect db -o json -f {tmp_path}/no/db.json").problem()["code"] == "error"


def test_names_are_any_text_and_play_no_tricks_with_the_terminal(cli: Cli) -> None:
    for name in ("größe 見る", "[red]x[bold]", "-dash", "with space", "a:b=c"):
        made = cli("limit", "create", "--limit", "5", "-o", "json", "--", name).parsed(LimitInfo)
        assert made.name == name
        assert name in cli("limit", "inspect", "--", name).out
    assert cli("limit", "create", "--limit", "5", "--description", "\x1b[2Jgone", "evil").code == 0
    assert "\x1b" not in cli("limit inspect evil").out


def test_gcl_is_limit_under_the_name_that_people_know(cli: Cli, real: Real) -> None:
    for verb in ("", "create", "ls", "inspect", "update", "enable", "disable", "delete"):
        limit, gcl = cli(f"limit {verb} --help"), cli(f"gcl {verb} --help")
        assert limit.code == gcl.code == 0
        assert gcl.out.replace("gcl", "limit") == limit.out.replace("gcl", "limit")
    assert real("gcl", "create", "api", "--limit", "5", "--slot-decay-per-second", "1.0").code == 0
    assert real("gcl", "ls", "-o", "json") == real("limit", "ls", "-o", "json")
    assert real("gcl", "update", "api", "--limit", "6", "--disable").code == 0
    assert real("gcl", "delete", "api", "--yes").code == 0


def test_active_slots_are_not_set_by_hand(cli: Cli) -> None:
    assert cli("gcl create db --limit 5 --active-slots 0").code == 0
    for line in ("create db2 --limit 5 --active-slots 3", "update db --active-slots 0"):
        refused = cli(f"gcl {line}")
        assert refused.code == 2
        assert "ebbgate lease revoke ID" in refused.err


def test_a_rate_is_shown_in_the_unit_that_people_think_in() -> None:
    assert rate(1 / 60, 60) == "60/hour"
    assert rate(1 / 60, 5) == "1/min"
    assert rate(1000 / 86_400, 1000) == "1000/day"
    assert rate(2.5) == "150/min"
    assert rate(0.1 + 0.2) == "0.3/s"
    assert rate(0.0) == "-"


def test_a_limit_of_0_says_that_it_blocks(cli: Cli) -> None:
    for line in ("create db --limit 0", "update db --limit 0", "inspect db"):
        said = cli(f"limit {line}")
        assert "blocks every acquisition" in said.out + said.err
    assert "--limit N" in cli("limit create other --limit 0").err


def test_numbers_and_nouns_agree(cli: Cli) -> None:
    for count, noun in ((0, "0 slots"), (1, "1 slot"), (2, "2 slots")):
        assert f": {noun}" in cli(f"limit create n{count} --limit {count}").err
        assert cli(f"limit inspect n{count}").out.replace(f"{noun}", "X").count("X") == 1


def test_a_forced_deletion_is_logged(real: Real) -> None:
    assert real("limit", "create", "db", "--limit", "1").code == 0
    with real.holding("--limit", "db"):
        said = real("limit", "delete", "db", "--force", "--yes", more={"EBBGATE_DEBUG": "1"})
        assert said.code == 0
        assert "limit '" in said.err
        assert "deleted, forced" in said.err
