"""The notifier: tells people by e-mail what became of their jobs.

The outbox is part of the job document; this package leases what is due in it, renders it, hands it
to the mail server and notes the outcome. Messages from the broker only wake it up.
"""
