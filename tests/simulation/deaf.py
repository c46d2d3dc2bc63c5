"""An observer for thousands of runs that look at the gate itself, and not at its metrics."""


class Deaf:
    """The part of the observer that a gate calls; it remembers nothing."""

    def set(self, *args):
        pass

    def add(self, *args):
        pass

    def record(self, *args):
        pass
