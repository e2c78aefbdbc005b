"""The chaos suite: a seeded mix of jobs over HTTP, a tormentor that breaks things, a checker that forgives nothing.

``python -m tests.chaos --seeds 10 --seconds 300`` (or ``make chaos``). `plan` draws from the seed what is
submitted and what is broken; `world` runs the whole stack behind proxies; `driver` submits, `tormentor`
breaks; `checker` reads the API, the database, the mails and what the tasks themselves wrote (`effects`).
"""
