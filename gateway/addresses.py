"""What counts as an e-mail address."""

import email_validator

MAX_CHARACTERS = 254
"""RFC 5321, section 4.5.3.1.3, without the angle brackets."""

# Reserved names such as .local, .internal and .test are where many a company's own mail lives, and where
# development happens; the library's documentation says to take them off its list in this case.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def address(text: str) -> str:
    """*text* in its normal form; raises `ValueError` with a sentence if it is no address. Asks no DNS."""
    if len(text) > MAX_CHARACTERS:
        msg = f"It is longer than {MAX_CHARACTERS} characters."
        raise ValueError(msg)
    return email_validator.validate_email(text, check_deliverability=False).normalized
