"""What the spool raises, named by what the caller does next."""


class NotSpooled(Exception):
    """The events are not on disk: hold them where they are, and try again later.

    The message is for the operator: what failed, where, and what to do.
    """
