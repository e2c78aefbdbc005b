"""The HTTP front of Coatcheck: stateless, any number of copies, no task code and no database.

Where to find what:

- `app`: `create_app`, which wires everything; `gunicorn_conf` serves it; `settings` configures it.
- `api/`: the resources, one module per noun; thin.
- `submissions`, `validation`: from a request's body to a `contracts.messages.NewJob`.
- `queries`: from a query string to a `contracts.messages.JobQuery`, and the cursor.
- `catalogue`: what tasks there are, cached.
- `ledger`: the port to the results service, its RPC adapter (`rpc_ledger`), the `doorbell` that
  wakes workers, the `silence` that makes it fail fast, the `deadline` of each request.
- `problems`: the one place where an error becomes an answer (RFC 9457).
- `swagger`, `operations`, `schema_downgrade`: the document behind Swagger UI.
- `links`, `metrics`: absolute URLs; what Prometheus reads.
"""
