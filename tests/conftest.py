"""What holds for every test: properties are tried with the same examples each time, however slow the machine is, and
Ctrl-C is heeded, which a run in the background ignores, and its processes with it.
"""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
