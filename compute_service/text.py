"""Text that comes from user code, made fit for the ledger."""


def clean(text: object, limit: int) -> str:
    """*text* as a string of at most *limit* characters, without NUL and lone surrogates."""
    try:
        said = str(text)
    except Exception:  # noqa: BLE001 -- a broken __str__ must not cost the job its report
        said = f"<{type(text).__name__} that cannot be shown>"
    said = said[:limit]
    if said.isascii() and "\0" not in said:
        return said
    return said.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def last_bytes(text: str, limit: int) -> str:
    """The end of *text* that fits into *limit* bytes of UTF-8."""
    return text.encode("utf-8", "replace")[-limit:].decode("utf-8", "ignore").replace("\0", "\ufffd")
