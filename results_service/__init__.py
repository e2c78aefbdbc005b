"""The ledger in MongoDB as a Nameko service, and the notifier as another."""
