"""Celery's settings: durable where Coatcheck is durable, and nothing switched on that is not needed.

``BENCH_AMQP_URI`` and ``BENCH_MONGODB_URI`` say where the servers are.
"""

import os

# What is accepted is not lost: the publish is confirmed by RabbitMQ (messages are persistent and the
# queue durable by default), the message is acknowledged after the task, and comes back if its worker dies.
broker_url = os.environ["BENCH_AMQP_URI"]
broker_transport_options = {"confirm_publish": True}
task_acks_late = True
task_reject_on_worker_lost = True
broker_connection_retry_on_startup = True

# A client can see that its job runs, and a state it has seen is on disk: the URI carries w=majority&journal=true.
task_track_started = True
result_backend = os.environ["BENCH_MONGODB_URI"]
mongodb_backend_settings = {"database": "pipeline"}

# A worker process takes one job at a time, as is recommended with late acknowledgement, so that no
# long job holds up others that wait behind it. (The default of 4 was tried: no faster here, since a
# state write that waits for the disk is longer than the trip to RabbitMQ.)
worker_prefetch_multiplier = 1

# What costs time and is not used.
worker_disable_rate_limits = True
worker_send_task_events = False
task_send_sent_event = False
task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]
