"""The resources: thin, one module per noun."""
