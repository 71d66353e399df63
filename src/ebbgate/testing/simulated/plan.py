"""What one seed's world is like: who lives in it, what they want, and how often what goes wrong."""

import random
from typing import Literal, NamedTuple

Shape = Literal["machine", "servers", "both"]


class Plan(NamedTuple):
    """How a world is."""

    shape: Shape  # deciders: embedded processes of one machine, servers on a network store, or both at once
    embedded: int  # processes
    servers: int
    remotes: int  # client processes of servers, over streams
    channels: int  # of each of them
    rests: int  # client processes of servers, over REST
    callers: int  # at once, in each process
    tenants: int
    think_us: int  # typical pause of a caller between two blocks
    hold_us: int  # typical length of a block
    long_holds: float  # probability of a block that needs renewals
    hour_holds: float
    faults_every_us: int  # typical time between two faults of processes, wires or the store
    lost_request: float
    lost_answer: float
    crash: float  # at a commit
    message_lost: float
    message_late: float
    message_doubled: float
    hint_lost: float
    clock_steps: bool
    loses_tail: bool
    drift: float


def plan_of(seed: int) -> Plan:
    """Return the plan that follows from a seed."""
    chance = random.Random(f"plan {seed}")  # noqa: S311 - reproducible on purpose
    shape: Shape = chance.choice(("machine", "servers", "both"))
    # Never both: a store that lost its tail while its clock stepped back can give a fencing token twice.
    clock_steps = shape == "servers" and chance.random() < 0.5
    rough = chance.choice((0.2, 1.0, 1.0, 3.0))
    return Plan(
        shape=shape,
        embedded=chance.randint(3, 8) if shape != "servers" else 0,
        servers=chance.randint(1, 3) if shape != "machine" else 0,
        remotes=chance.randint(2, 6) if shape != "machine" else 0,
        channels=chance.choice((1, 1, 2, 3)),
        rests=chance.choice((0, 1, 3)) if shape != "machine" else 0,
        callers=chance.randint(1, 3),
        tenants=chance.randint(1, 4),
        think_us=chance.choice((200_000, 1_000_000, 5_000_000)),
        hold_us=chance.choice((200_000, 1_000_000, 5_000_000)),
        long_holds=chance.choice((0.0, 0.02, 0.1)),
        hour_holds=chance.choice((0.0, 0.0, 0.002)),
        faults_every_us=round(chance.choice((2_000_000, 10_000_000, 30_000_000)) / rough),
        lost_request=chance.choice((0.0, 0.002, 0.02)) * rough,
        lost_answer=chance.choice((0.0, 0.002, 0.02)) * rough,
        crash=chance.choice((0.0, 0.0005, 0.003)) * rough,
        message_lost=chance.choice((0.0, 0.01, 0.05)) * rough,
        message_late=chance.choice((0.0, 0.01, 0.05)) * rough,
        message_doubled=chance.choice((0.0, 0.01, 0.05)) * rough,
        hint_lost=chance.choice((0.0, 0.1, 0.5)),
        clock_steps=clock_steps,
        loses_tail=not clock_steps and chance.random() < 0.2,
        drift=chance.choice((0.0, 0.001, 0.005)),
    )
