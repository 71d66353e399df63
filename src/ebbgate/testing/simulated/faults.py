"""What goes wrong with processes, wires, clocks and the store, by chance and by what the plan allows."""

from collections.abc import Callable
from typing import Final

from ebbgate.core.model import SECOND
from ebbgate.testing import history as h
from ebbgate.testing.simulated.embedded import EmbeddedProcess
from ebbgate.testing.simulated.remote import RemoteProcess
from ebbgate.testing.simulated.rest import RestProcess
from ebbgate.testing.simulated.server import Server
from ebbgate.testing.simulated.world import OPERATOR, World

HOUR_US: Final = 3_600 * SECOND
DRAIN_US: Final = 3 * SECOND
"""How long a server that stops in order has at most for its last words."""

Owner = EmbeddedProcess | RemoteProcess | RestProcess | Server


class Faults:
    """Brings trouble to a world, and ends it."""

    def __init__(self, world: World) -> None:
        """Bring none before `begin`."""
        self.world = world
        self._ends: dict[int, Callable[[], None]] = {}  # of what is wrong now
        self._serial = 0
        plan = world.plan
        self._kinds: list[tuple[int, Callable[[], None]]] = [
            (4, self._kill),
            (3, self._stop),
            (3 if plan.servers else 0, self._cut),
            (2 if plan.servers else 0, self._drain),
            (2 if plan.servers else 0, self._reset),
            (1 if plan.servers else 0, self._part),
            (1, self._take_store_down),
            (6, self._change_limit),
            (1, self._revoke),
            (2 if plan.clock_steps else 0, self._step_clock),
            (1 if plan.loses_tail else 0, self._lose_tail),
        ]

    def begin(self) -> None:
        """Bring trouble from now on."""
        kernel, every_us = self.world.kernel, self.world.plan.faults_every_us
        kernel.after(kernel.between(every_us // 10, every_us * 3), self._next)

    def _next(self) -> None:
        if self.world.draining:
            return
        chance = self.world.kernel.random
        weights = [weight for weight, _ in self._kinds]
        (bring,) = chance.choices([kind for _, kind in self._kinds], weights)
        bring()
        self.begin()

    def end_all(self) -> None:
        """End everything that is wrong now, and let nothing else go wrong."""
        while self._ends:  # one may begin what is to be ended as well
            self._ends.pop(next(iter(self._ends)))()
        access, network = self.world.access, self.world.network
        access.lost_request = access.lost_answer = access.crash = access.late_commit = 0.0
        network.lost = network.late = network.doubled = network.reset = 0.0

    def _later(self, after_us: int, end: Callable[[], None]) -> None:
        self._serial += 1
        number = self._serial
        self._ends[number] = end

        def finish() -> None:
            if (known := self._ends.pop(number, None)) is not None:
                known()

        self.world.kernel.after(after_us, finish)

    def _trouble(self, client: str, what: str, after_us: int, end: Callable[[], None]) -> None:
        """Note a trouble that begins now; `end` is called, and its end noted, after `after_us`."""
        world = self.world
        self._serial += 1
        named = f"{what} {self._serial}"
        world.record(h.TroubleBegan(when_us=world.kernel.now_us, client=client, what=named))

        def finish() -> None:
            end()
            world.record(h.TroubleEnded(when_us=world.kernel.now_us, client=client, what=named))

        self._later(after_us, finish)

    def _server_trouble(self, what: str, after_us: int, end: Callable[[], None]) -> None:
        """Note a trouble of all that may be connected to a server."""
        clients = [*self.world.remotes, *self.world.rests]
        self._trouble(clients[0] if clients else "", what, after_us, end)
        for client in clients[1:]:
            self._trouble(client, what, after_us, lambda: None)

    def _length_us(self) -> int:
        kernel = self.world.kernel
        if kernel.happens(0.05):
            return kernel.between(60 * SECOND, 150 * SECOND)  # twice a lease duration
        return kernel.between(SECOND // 100, 25 * SECOND)

    # --- processes

    def _someone(self) -> Owner | None:
        world = self.world
        owners: list[Owner] = [
            *world.servers.values(), *world.embedded.values(), *world.remotes.values(), *world.rests.values()
        ]  # fmt: skip
        able = [owner for owner in owners if owner.process.alive and owner.name != OPERATOR]
        return world.kernel.random.choice(able) if able else None

    def _kill(self) -> None:
        if (owner := self._someone()) is not None:
            self.world.access.count("killed")
            self.end(owner)

    def bury_crashed(self) -> None:
        """See to those that crashed at a commit."""
        crashed, self.world.access.crashed = self.world.access.crashed, []
        for process in crashed:
            world = self.world
            owners: list[Owner] = [*world.servers.values(), *world.embedded.values()]
            for owner in owners:
                if owner.process is process and process.alive and owner.name != OPERATOR:
                    self.end(owner)

    def end(self, owner: Owner) -> None:
        """Kill one process; another one comes in its place."""
        world, kernel = self.world, self.world.kernel
        owner.process.kill()
        kernel.note("world", "kills", owner.name)
        world.dead.append(owner)
        after_us = self._length_us()
        if isinstance(owner, Server):
            self._end_server(owner, after_us)
            return
        world.record(h.Killed(when_us=kernel.now_us, client=owner.name))
        if isinstance(owner, RemoteProcess):
            owner.hang_up()
            del world.remotes[owner.name]
        elif isinstance(owner, RestProcess):
            del world.rests[owner.name]
        else:
            del world.embedded[owner.name]
        name = world.next_name(owner.name)

        def replace() -> None:
            if world.draining:
                return
            if isinstance(owner, RemoteProcess):
                world.populate(*world.start_remote(name).channels)
            elif isinstance(owner, RestProcess):
                world.populate(world.start_rest(name))
            else:
                world.populate(world.start_embedded(name))

        self._later(after_us, replace)

    def _end_server(self, server: Server, after_us: int) -> None:
        """Have the kernel close the connections of a dead server; another one comes later."""
        world = self.world
        del world.servers[server.name]
        for end in server.ends:
            end.wire.close(by_client=False)
        world.access.count("server down")
        self._server_trouble("server down", after_us, lambda: _ignore(world.start_server(server.name)))

    def _drain(self) -> None:
        """Stop a server in order; it, or another one of its name, comes back."""
        world, kernel = self.world, self.world.kernel
        able = [it for it in world.servers.values() if not (it.is_draining or it.process.stopped)]
        if not able:
            return
        server = kernel.random.choice(able)
        kernel.note("world", "drains", server.name)
        world.access.count("server drained")
        server.process.soon(lambda: server.drain(kernel.random.choice((0.5, 2.0, 5.0))))

        def stop() -> None:
            if server.process.alive and world.servers.get(server.name) is server:
                server.stop()
                server.process.kill()
                world.dead.append(server)
                self._end_server(server, self._length_us())

        self._later(kernel.between(SECOND // 10, DRAIN_US), stop)

    def _part(self) -> None:
        """Have a client process end in order."""
        world = self.world
        able = [it for it in world.remotes.values() if it.name != OPERATOR and not it.process.stopped]
        if not able:
            return
        remote = world.kernel.random.choice(able)
        world.access.count("client parted")
        remote.part()
        self.end(remote)

    def _stop(self) -> None:
        owner = self._someone()
        if owner is None:
            return
        if not isinstance(owner, RemoteProcess) and self.world.kernel.happens(0.5):
            self.world.access.ambush[owner.name] = lambda: self._stop_now(owner)
        else:
            self._stop_now(owner)

    def _stop_now(self, owner: Owner) -> None:
        if owner.process.stopped or not owner.process.alive or self.world.draining:
            return
        world, kernel, process = self.world, self.world.kernel, owner.process
        process.stop()
        kernel.note("world", "stops", owner.name)

        def go_on() -> None:
            process.cont()
            kernel.note("world", "continues", owner.name)
            if not isinstance(owner, Server):
                world.record(h.Continued(when_us=kernel.now_us, client=owner.name))

        if isinstance(owner, Server):
            world.access.count("server stopped")
            self._server_trouble("server stopped", self._length_us(), go_on)
            return
        world.access.count("client stopped")
        world.record(h.Stopped(when_us=kernel.now_us, client=owner.name))
        self._later(self._length_us(), go_on)

    # --- wires, store and clock

    def _cut(self) -> None:
        world, chance = self.world, self.world.kernel.random
        clients = [*world.remotes, *world.rests]
        if not world.servers or not clients:
            return
        server, client = chance.choice(list(world.servers)), chance.choice(clients)
        network = world.network
        network.cut(client, server)
        world.kernel.note("world", "cuts", client, server)
        world.access.count("partition")
        self._trouble(client, "partition", self._length_us(), lambda: network.mend(client, server))

    def _reset(self) -> None:
        """Something between a client and a server has enough of their connection."""
        world = self.world
        network = world.network
        able = [it for it in network.wires if not network.is_cut(it.up.source.name, it.up.target.name)]
        if able:
            wire = world.kernel.random.choice(able)
            world.access.count("connection reset")
            world.kernel.note("world", "resets", wire.up.source.name, wire.up.target.name)
            wire.reset()

    def _take_store_down(self) -> None:
        access = self.world.access
        if access.down:
            return
        access.down = True
        self.world.kernel.note("world", "takes the store down")
        length_us = self.world.kernel.between(SECOND // 100, 20 * SECOND)
        access.count("store down")
        self._trouble("", "store down", length_us, lambda: setattr(access, "down", False))

    def _step_clock(self) -> None:
        servers = list(self.world.servers.values())
        if servers and self.world.kernel.happens(0.5):
            server = self.world.kernel.random.choice(servers)
            self.world.access.ambush[server.name] = self._step_clock_now
        else:
            self._step_clock_now()

    def _step_clock_now(self) -> None:
        if self.world.draining:
            return
        access, kernel = self.world.access, self.world.kernel
        forward = kernel.happens(0.5)
        far = kernel.between(SECOND + SECOND // 10, 3 * 86_400 * SECOND) if kernel.happens(0.5) else 0
        by_us = far or kernel.between(1_000, SECOND)
        by_us = by_us if forward else -by_us
        if kernel.happens(0.3):
            by_us = HOUR_US
            access.count("clock an hour ahead")
        access.step(by_us)
        access.count("clock stepped")
        kernel.note("world", "steps the clock", by_us)

    def _lose_tail(self) -> None:
        world, kernel = self.world, self.world.kernel
        lost = world.access.store.lose_tail(kernel.random.randint(1, 20))
        world.access.count("tail lost")
        world.record(h.StoreLost(when_us=kernel.now_us))
        kernel.note("world", "loses", lost, "commits")
        world.operator.gate.process.start(world.operator.repair())

    # --- people

    def _change_limit(self) -> None:
        operator, chance = self.world.operator, self.world.kernel.random
        if not operator.limits:
            return
        known = chance.choice(list(operator.limits.values()))
        start = operator.gate.process.start
        match chance.choice(("resize", "resize", "close", "toggle", "rename", "decay", "delete")):
            case "resize":
                start(operator.update(known, limit=chance.randint(1, 8)))
            case "close":
                start(operator.update(known, limit=0))
                length_us = self._length_us()
                self._later(length_us, lambda: _ignore(start(operator.update(known, limit=3))))
            case "toggle":
                start(operator.update(known, active=not known.active))
            case "rename":
                start(operator.update(known, new_name=operator.fresh_name(known)))
            case "decay" if known.decay > 0:
                start(operator.update(known, decay=chance.choice((0.25, 1.0, 3.0, 20.0))))
            case "delete":
                start(operator.delete(known, force=chance.random() < 0.7))
            case _:
                return
        self.world.access.count("limit changed in use")

    def _revoke(self) -> None:
        world = self.world
        leases = [key[1] for key in world.access.store.rows if key[0] == "lease"]
        if leases:
            lease = world.kernel.random.choice(leases)
            if any(isinstance(e, h.Asked) and e.lease == lease for e in reversed(world.history)):
                world.access.count("revoked")
                world.operator.gate.process.start(world.operator.revoke(lease))


def _ignore(_made: object) -> None:
    """Take what a function returns that nobody needs."""
