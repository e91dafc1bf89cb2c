"""What is measured beside the contest; `order` lists it.

Nothing is imported here: a probe that is a process of its own would have all the others in its
memory, and in the way of its garbage collector.
"""
