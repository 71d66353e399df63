"""A store that has lost committed state grants nothing until holders had the time to renew."""

from ebbgate.core.book import Book
from ebbgate.core.commands import (
    Acquire,
    Command,
    DeleteLimit,
    Held,
    Hello,
    Outcome,
    PutLimit,
    Refused,
    Waiting,
)
from ebbgate.core.lost_state import AHEAD_MAX_US, WHY
from ebbgate.core.model import SECOND, Settings, Stored

T0 = 1_700_000_000_000_000
GRACE = 30 * SECOND


def decide(book: Book, now_us: int, *commands: Command) -> list[Outcome]:
    decision = book.decide(commands, now_us)
    book.confirm(decision.head)
    return decision.outcomes


def ask(lease: str, *, wait: bool = True) -> Acquire:
    return Acquire(lease, "s", 1, (("a", 1),), 60 * SECOND, wait=wait)


def book_of(token: int = 0) -> Book:
    book = Book()
    decide(book, T0, Hello("s", 1, token=token), PutLimit("", "create", "a", "a", None, 1))
    return book


def records_of(book: Book) -> list[Stored]:
    records: list[Stored] = [Stored("limit", limit.id, limit) for limit in book.limits.values()]
    return records + [Stored("session", session.id, session) for session in book.sessions.values()]


def test_a_client_that_knows_a_newer_token_than_the_store_has_nothing_granted_until_the_grace_is_over() -> (
    None
):
    book = book_of()
    assert book.recoveries == 0
    decide(book, T0 + 1, Hello("s", 1, token=T0 + 5 * SECOND))
    assert book.recoveries == 1
    assert book.limits["a"].cool_why == WHY
    (outcome,) = decide(book, T0 + 2, ask("l"))
    assert isinstance(outcome, Waiting)
    (refused,) = decide(book, T0 + 3, ask("m", wait=False))
    assert isinstance(refused, Refused)
    decide(book, T0 + 1 + GRACE)
    (granted,) = decide(book, T0 + 1 + GRACE, ask("l"))
    assert isinstance(granted, Held)
    assert granted.token > T0 + 5 * SECOND
    assert book.recoveries == 1


def test_a_client_that_knows_no_newer_token_changes_nothing() -> None:
    book = book_of()
    (held,) = decide(book, T0 + 1, ask("l"))
    assert isinstance(held, Held)
    decide(book, T0 + 2, Hello("s", 2, token=held.token))
    assert book.recoveries == 0
    assert book.limits["a"].cool_until_us < 0


def test_a_token_from_the_far_future_is_not_believed() -> None:
    book = book_of()
    decide(book, T0 + 1, Hello("s", 2, token=T0 + 2 * AHEAD_MAX_US))
    assert book.recoveries == 0
    assert book.token < T0 + SECOND


def test_a_process_that_loads_an_older_store_grants_nothing_until_the_grace_is_over() -> None:
    book = book_of()
    head, records = book.head, records_of(book)
    (held,) = decide(book, T0 + 1, ask("l"))
    assert isinstance(held, Held)
    book.load(head, records)  # as after a restored backup
    (outcome,) = decide(book, T0 + 2, ask("m"))
    assert isinstance(outcome, Waiting)
    assert book.recoveries == 1
    assert book.head.token >= held.token
    assert book.limits["a"].cool_until_us == T0 + 2 + GRACE


def test_a_recovery_that_was_not_committed_is_decided_again() -> None:
    book = book_of()
    book.decide([Hello("s", 2, token=T0 + 5 * SECOND)], T0 + 1)
    book.rollback()
    assert book.recoveries == 0
    assert book.limits["a"].cool_until_us < 0
    (outcome,) = decide(book, T0 + 2, ask("l"))
    assert isinstance(outcome, Waiting)
    assert book.recoveries == 1


def test_a_limit_that_is_created_while_the_store_recovers_grants_nothing_either() -> None:
    book = Book()
    decide(book, T0, Hello("s", 1, token=T0 + SECOND))
    decide(book, T0 + 1, PutLimit("", "create", "a", "a", None, 1))
    (outcome,) = decide(book, T0 + 2, ask("l"))
    assert isinstance(outcome, Waiting)
    later = T0 + GRACE
    decide(book, later, PutLimit("", "create", "b", "b", None, 1))
    assert book.limits["b"].cool_until_us < 0


def test_a_namespace_that_refuses_unknown_limits_lets_no_caller_run_without_them() -> None:
    book = Book(Settings(unknown_limits="refuse"))
    decide(book, T0, Hello("s", 1), PutLimit("", "create", "a", "a", None, 1))
    (refused,) = decide(book, T0 + 1, Acquire("l", "s", 1, (("a", 1), ("lost", 1)), 60 * SECOND))
    assert isinstance(refused, Refused)
    assert (refused.code, refused.details["names"]) == ("limit_not_found", ["lost"])
    (held,) = decide(book, T0 + 2, ask("m"))
    assert isinstance(held, Held)
    decide(book, T0 + 3, ask("waits"))
    decision = book.decide([DeleteLimit("a", force=True)], T0 + 4)
    (told,) = [told for told in decision.told if told.id == "waits"]
    assert isinstance(told.outcome, Refused)
    book.confirm(decision.head)
