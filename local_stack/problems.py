"""What can be wrong with the machine, said in one sentence that tells what to do."""


class StackProblem(Exception):
    """The stack cannot run; the message is for the person who started it."""
