"""Recovery of a store that has lost committed state: nothing is granted until holders had the time to renew.

Fencing tokens show the loss: a process or a client knows a token that the store has not given yet. It follows a
restored backup, a removed log, or a failover to a replica that was behind. What was granted in the lost commits is
unknown, so every limit cools down for the recovery grace. All servers of the store see that, as people do.

Known limit: a loss that no connected client and no running process knows of stays unnoticed until one of them connects.
"""

from dataclasses import replace
from typing import Final

from ebbgate.core.ledger import Ledger

WHY: Final = "the store lost committed state; holders have time to renew"

AHEAD_MAX_US: Final = 366 * 86_400_000_000
"""Tokens are instants: a client that names one further ahead is not believed, so that tokens never run out."""


def heard_of(ledger: Ledger, token: int) -> None:
    """Note a token that a client knows; if the store has not given it yet, begin to recover."""
    if ledger.token < token <= ledger.now_us + AHEAD_MAX_US:
        ledger.known_token = max(ledger.known_token, token)
        recover(ledger)


def recover(ledger: Ledger) -> None:
    """Continue above the newest known token, and have no limit grant anything for the recovery grace."""
    ledger.token = ledger.known_token
    ledger.recovers = True
    until_us = ledger.recovers_until_us = ledger.now_us + ledger.settings.recovery_us
    for live in list(ledger.lives.values()):
        if live.limit.cool_until_us < until_us:
            ledger.put_limit(live.limit.id, replace(live.limit, cool_until_us=until_us, cool_why=WHY))
