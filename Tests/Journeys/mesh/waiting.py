"""Waiting by polling, never by sleeping for luck."""

import time


class NotInTime(AssertionError):
    """What was waited for did not happen."""


def eventually(condition, within=10.0, every=0.02, what=None):
    """The first true value of `condition()`; fails with the last value or error seen after `within` seconds."""
    end = time.monotonic() + within
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, AssertionError, KeyError, ValueError, LookupError) as error:
            last = error
        if time.monotonic() >= end:
            raise NotInTime(f"{what or 'condition'} did not hold within {within} s; last seen: {last!r}")
        time.sleep(every)
