"""Random histories: a book decides what the rule says, whoever decides, undone or not, read anew or not."""

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from ebbgate.core.commands import Hello, PutLimit
from ebbgate.core.model import SECOND, Settings
from tests.core.support import REMEMBERS, Dice, World, run_history

BOOKS = 3
books = st.integers(0, BOOKS - 1)
chance = st.randoms(use_true_random=False)


class Histories(RuleBasedStateMachine):
    """Three books take turns in deciding one history; each step is compared with the plain reference."""

    @initialize(patience=st.sampled_from([2, 30, 1_000_000]), source=chance)
    def begin(self, patience: int, source: random.Random) -> None:
        self.world = World(Settings(patience_us=patience * SECOND), books=BOOKS)
        self.world.step([Hello(name, 1, remembers=remembers) for name, remembers in REMEMBERS.items()])
        for _ in range(3):
            self.world.step([Dice(source).put(self.world)])

    @rule(source=chance, decider=books, undone=st.sets(books), looks=st.sets(books), broken=st.sets(books))
    def decide(
        self, source: random.Random, decider: int, undone: set[int], looks: set[int], broken: set[int]
    ) -> None:
        commands = Dice(source).commands(self.world)
        if any(isinstance(command, PutLimit) for command in commands):
            self.world.now += 1  # an edit and the making of a limit are told apart by their instants
        self.world.step(
            commands, decider=decider, undone=sorted(undone), looks=sorted(looks), broken=sorted(broken)
        )

    @rule(source=chance)
    def wait(self, source: random.Random) -> None:
        Dice(source).pass_time(self.world)

    @rule(book=books, go=st.booleans(), decider=books)
    def wait_until_something_is_due(self, book: int, go: bool, decider: int) -> None:
        due_us = self.world.next_due(book)
        if go and due_us > self.world.now:
            self.world.now = due_us
            self.world.step([], decider=decider)

    @rule(book=books)
    def read_everything_anew(self, book: int) -> None:
        self.world.reload(book)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=60, stateful_step_count=40, suppress_health_check=list(HealthCheck), deadline=None
)


@pytest.mark.parametrize("patience", [2, 30, 1_000_000])
def test_every_decision_is_that_of_the_rule_written_plainly(patience: int) -> None:
    """Seeded histories, quicker than hypothesis draws them; the seed stands in the failure's traceback."""
    for seed in range(25):
        run_history(seed, 80, Settings(patience_us=patience * SECOND))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_every_decision_is_that_of_the_rule_in_long_histories_too(part: int) -> None:
    for seed in range(1_000 * part, 1_000 * part + 40):
        run_history(seed, 250, Settings(patience_us=(2, 30)[seed % 2] * SECOND))
