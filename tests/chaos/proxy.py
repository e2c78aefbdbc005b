"""A TCP proxy between the services and one server, that cuts, refuses and falls silent when it is told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from local_stack.ports import LOOPBACK

CHUNK_BYTES = 64 * 1024
CONNECT_SECONDS = 2.0


@dataclass(kw_only=True, slots=True, eq=False)
class Link:
    """One connection of a client."""

    port: int
    """The client's own port, by which its process is found."""
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    flows: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self) -> None:
        """Reset both halves."""
        for end in (self.client, self.server):
            if end is not None:
                end.transport.abort()
        self.flows.set()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rule:
    """What happens to new connections, as long as it is in force."""

    applies: Callable[[], set[int]] | None
    """Asks for the ports of the client it is about; None: everybody."""
    silent: bool
    """Taken and not served, instead of reset."""


class Proxy:
    """Listens on loopback and passes everything on to *target*."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._links: set[Link] = set()
        self._rules: list[Rule] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen; `port` is known then."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        self.cut(None)

    def cut(self, ports: set[int] | None) -> int:
        """Reset the connections from these *ports* of clients, None: all; answers how many there were."""
        found = self._of(ports)
        for link in found:
            link.cut()
        return len(found)

    @contextlib.asynccontextmanager
    async def refusing(self, ports: Callable[[], set[int]] | None) -> AsyncIterator[None]:
        """Reset what there is and what comes."""
        with self._rule(Rule(applies=ports, silent=False)):
            self.cut(await _ask(ports))
            yield

    @contextlib.asynccontextmanager
    async def silent(self, ports: Callable[[], set[int]] | None) -> AsyncIterator[None]:
        """Hold back what is sent; afterwards it arrives, late."""
        with self._rule(Rule(applies=ports, silent=True)) as rule:
            for link in self._of(await _ask(ports)):
                link.flows.clear()
            yield
        for link in self._links:
            if rule not in self._rules:
                link.flows.set()

    @contextlib.contextmanager
    def _rule(self, rule: Rule):  # type: ignore[no-untyped-def]  # noqa: ANN202
        self._rules.append(rule)
        try:
            yield rule
        finally:
            self._rules.remove(rule)

    def _of(self, ports: set[int] | None) -> list[Link]:
        return [link for link in self._links if ports is None or link.port in ports]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(port=writer.get_extra_info("peername")[1], client=writer)
        link.flows.set()
        self._links.add(link)
        try:
            for rule in list(self._rules):
                ports = await _ask(rule.applies)
                if ports is not None and link.port not in ports:
                    continue
                if not rule.silent:
                    return
                if rule in self._rules:
                    link.flows.clear()
            async with asyncio.timeout(CONNECT_SECONDS):
                far, link.server = await asyncio.open_connection(LOOPBACK, self._target)
            pumps = [_pump(reader, link.server, link), _pump(far, writer, link)]
            done, rest = await asyncio.wait(map(asyncio.create_task, pumps), return_when=asyncio.FIRST_COMPLETED)
            for pump in (*done, *rest):
                pump.cancel()
        except (OSError, TimeoutError):
            pass  # the server is away: the client sees its connection reset
        finally:
            self._links.discard(link)
            link.cut()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            await link.flows.wait()
            writer.write(data)
            await writer.drain()
        await link.flows.wait()


async def _ask(ports: Callable[[], set[int]] | None) -> set[int] | None:
    return None if ports is None else await asyncio.to_thread(ports)
