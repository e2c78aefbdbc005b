"""What the services share and nothing else: models, messages, errors, settings, the broker client.

Nothing in here imports a service.
"""

__version__ = "0.1.0"
