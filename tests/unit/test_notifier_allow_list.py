import pytest

from results_service.notifier.allow_list import AllowList


@pytest.mark.parametrize(
    ("text", "address", "allowed"),
    [
        ("", "ada@example.org", False),
        (" , ", "ada@example.org", False),
        ("*", "ada@example.org", True),
        ("ada@example.org", "Ada@Example.ORG", True),
        ("ada@example.org", "eve@example.org", False),
        ("@example.org", "eve@EXAMPLE.org", True),
        ("@example.org", "eve@sub.example.org", False),
        ("@example.org", "eve@notexample.org", False),
        ("bob@example.com, @example.org", "bob@example.com", True),
        ("ada@example.org", '"ada@example.org"@evil.example', False),
    ],
)
def test_only_listed_recipients_are_allowed(text: str, address: str, *, allowed: bool):
    """Addresses, domains and * mean exactly what they say, whatever their case; empty means nobody."""
    assert AllowList.parse(text).allows(address) is allowed


@pytest.mark.parametrize("text", ["example.org", "ada@", "a@b@c", "ada example@x.org", "@"])
def test_an_entry_that_is_none_is_refused(text: str):
    """A typing error in the allow-list stops the service instead of silently allowing or refusing."""
    with pytest.raises(ValueError, match="neither an address"):
        AllowList.parse(text)
