"""A bug for one service under test, as none of ours has it: on SIGUSR1 places are kept, on SIGUSR2 they are given back.

Python imports a module of this name at its start if it finds one; the service under test has this folder on its path.
"""

import signal
import sys

kept = []


def leak(*_):
    place = sys.modules["service.runtime.place"].Place
    place.__exit__ = lambda self, *_: kept.append(self)


def mend(*_):
    place = sys.modules["service.runtime.place"].Place
    place.__exit__ = lambda self, *_: self.release()
    while kept:
        kept.pop().release()


signal.signal(signal.SIGUSR1, leak)
signal.signal(signal.SIGUSR2, mend)
