"""`ebbgate lease`, and what `limit inspect` and `delete` say of holders and waiters."""

from ebbgate.wire import LeaseInfo, LimitInfo
from tests.cli.support import Cli, Real, Result, ended, let_go, wait_until


def leases(cli: Cli, flags: str = "") -> list[LeaseInfo]:
    return cli(f"lease ls -o json {flags}").parsed(list[LeaseInfo])


def test_holders_and_waiters_are_listed_as_the_api_shows_them(cli: Cli, real: Real) -> None:
    cli("limit create db --limit 3")
    cli("limit create other --limit 3")
    with (
        real.holding("--limit", "db", "--occupy", "2", "--label", "job=nightly") as holder,
        real.started("run", "--limit", "db", "--occupy", "2", "--priority", "7", "--", "true") as waiter,
    ):
        wait_until(lambda: len(leases(cli)) == 2)
        held, waiting = leases(cli)
        assert (held.state, held.limits[0].slots, held.holder.pid) == ("held", 2, holder.pid)
        assert held.holder.labels == {"command": "sh", "job": "nightly"}
        assert (waiting.state, waiting.position, waiting.lacks, waiting.priority) == ("waiting", 1, ["db"], 7)
        assert waiting.blocked_by == [held.id]
        assert leases(cli, "--state held") == [held]
        assert [lease.id for lease in leases(cli, "--state waiting --limit db")] == [waiting.id]
        assert leases(cli, "--limit other") == []
        assert cli(f"lease inspect {held.id} -o json").parsed(LeaseInfo) == held

        table = cli("lease ls").out.splitlines()
        assert table[0].split() == ["ID", "STATE", "LIMITS", "HOLDER", "SINCE", "NEXT"]
        assert table[1].startswith(f"{held.id[-8:]}  held")
        assert f"{held.holder.host}:{holder.pid} command=sh job=nightly" in table[1]
        assert "no. 1 in the queue" in table[2]

        shown = cli("limit inspect db").out
        assert "2/3 (2 held, 0 spent)" in shown
        holders, waiters = shown.partition("holders\n")[2].split("waiters, the next one first\n")
        assert held.id[-8:] in holders
        assert f"{held.holder.host}:{holder.pid}" in holders
        assert "4min 5" in holders
        assert f"db; held by {held.id[-8:]}" in waiters
        assert str(waiter.pid) in waiters

        shown = cli(f"lease inspect {waiting.id[-8:]}").out
        for part in (waiting.id, "waiting", "db ×2", f"process {waiter.pid}", held.id, "command=true"):
            assert part in shown
        assert let_go(holder) == (0, "")
        assert ended(waiter)[0] == 0
    wait_until(lambda: not leases(cli))
    done = leases(cli, "--state ended")
    assert {held.id, waiting.id} <= {lease.id for lease in done}
    assert {lease.why for lease in done} == {"released"}
    assert "released" in cli("lease ls --state ended --limit db").out


def test_a_lease_that_is_revoked_passes_on(cli: Cli, real: Real) -> None:
    cli("limit create db --limit 1")
    with (
        real.holding("--limit", "db") as holder,
        real.started("run", "--limit", "db", "--", "true") as waiter,
    ):
        wait_until(lambda: len(leases(cli)) == 2)
        held = leases(cli)[0]
        revoked = cli(f"lease revoke {held.id} -o json").parsed(LeaseInfo)
        assert (revoked.id, revoked.state, revoked.why) == (held.id, "ended", "revoked")
        assert ended(waiter)[0] == 0
        again = cli(f"lease revoke {held.id}")
        assert (again.code, again.out) == (0, "")
        assert "had ended already (revoked)" in again.err
        assert holder.stderr is not None
        assert "lost the lease on 'db'" in holder.stderr.readline()
        assert let_go(holder)[0] == 1


def test_a_waiter_that_is_revoked_leaves_the_queue(cli: Cli, real: Real) -> None:
    cli("limit create db --limit 1")
    with real.holding("--limit", "db"), real.started("run", "--limit", "db", "--", "echo", "ran") as waiter:
        wait_until(lambda: len(leases(cli)) == 2)
        told = cli(f"lease revoke {leases(cli)[1].id[-8:]}")
        assert (told.code, told.out) == (0, "")
        code, out, err = ended(waiter)
        assert (code, out) == (1, "")
        assert "revoked" in err


def test_the_beginning_of_an_id_is_enough_if_it_is_unique(cli: Cli, real: Real) -> None:
    cli("limit create db --limit 1")
    with real.holding("--limit", "db"):
        held = leases(cli)[0]
        for part in (held.id[-4:], held.id[:20], held.id[-8:].upper(), held.id):
            assert cli(f"lease inspect {part} -o json").parsed(LeaseInfo).id == held.id
        assert cli(f"lease inspect {held.id[-3:]}").code == 3


def test_a_limit_in_use_is_deleted_only_by_force(cli: Cli, real: Real) -> None:
    cli("limit create db --limit 1")
    with real.holding("--limit", "db") as holder:
        refused = cli("limit delete db --yes")
        assert (refused.code, refused.out) == (4, "")
        assert "1 holder and" in refused.err
        assert "--force" in refused.err
        assert cli("limit delete db --yes -o json").problem()["code"] == "limit_in_use"
        assert cli("limit delete db --force --yes").code == 0
        assert let_go(holder)[0] == 0
    assert cli("limit inspect db").code == 3


def test_a_limit_that_shrinks_below_what_is_held_says_that_it_drains(cli: Cli, real: Real) -> None:
    cli("limit create db --limit 2")
    with real.holding("--limit", "db", "--occupy", "2"):
        assert "it drains" in cli("limit update db --limit 1").err
        limit = cli("limit inspect db -o json").parsed(LimitInfo)
        assert (limit.limit, limit.held_slots) == (1, 2)
        assert cli("limit inspect db").out.count("2/1 (2 held, 0 spent)") == 1


def test_an_empty_list_of_leases_says_what_to_do_next(cli: Cli) -> None:
    assert cli("lease ls -o json") == Result(0, "[]\n", "")
    for line, part in (
        ("", "holds or waits"),
        ("--state ended", "lately"),
        ("--state waiting", "nobody waits"),
    ):
        empty = cli(f"lease ls {line}")
        assert (empty.code, empty.out) == (0, "")
        assert part in empty.err
        assert "ebbgate run --limit NAME" in empty.err
