"""What a command ends with when it cannot be done as asked."""


class UsageError(Exception):
    """What the operator gave cannot work: one line that says what, where, and what to do."""
