"""Who may get mail at all."""

from dataclasses import dataclass

EVERYONE = "*"


@dataclass(frozen=True, kw_only=True, slots=True)
class AllowList:
    """The recipients that the operator has released; empty means nobody."""

    addresses: frozenset[str]
    """Whole addresses, in lower case."""
    domains: frozenset[str]
    """Domains without the ``@``, in lower case; their subdomains are not meant."""
    everyone: bool

    @classmethod
    def parse(cls, text: str) -> "AllowList":
        """Read ``a@example.org, @example.com, *``; raises `ValueError` naming an entry that is none of these."""
        entries = {entry.strip().lower() for entry in text.split(",")} - {""}
        for entry in entries - {EVERYONE}:
            if entry.count("@") != 1 or entry.endswith("@") or " " in entry:
                raise ValueError(f"{entry!r} is neither an address, nor an @domain, nor *")
        return cls(
            addresses=frozenset(entry for entry in entries if "@" in entry[1:]),
            domains=frozenset(entry[1:] for entry in entries if entry.startswith("@")),
            everyone=EVERYONE in entries,
        )

    def allows(self, address: str) -> bool:
        """Whether mail may go to *address*; upper and lower case are the same."""
        address = address.lower()
        return self.everyone or address in self.addresses or address.rpartition("@")[2] in self.domains
