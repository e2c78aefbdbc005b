"""The pipeline people build today: a Flask-RESTX front, Celery on RabbitMQ, results in MongoDB.

Set up as Celery's documentation recommends where no accepted job may be lost, and tuned within that:
https://docs.celeryq.dev/en/stable/userguide/optimizing.html. It has the same front server and the same
number of worker processes as Coatcheck has gateways and slots.
"""
