"""Runs tasks: the SDK they are written with, the pool of child processes they run in, the tasks themselves."""
