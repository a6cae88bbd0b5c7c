"""A Pico whose control loop hangs, in rp2040py: `hang.py FILE…`, ELF or UF2, writes the log of both its boots to stdout.

Its clock is stopped once it is at rest, so no control tick comes any more and nobody feeds the watchdog.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pico import Pico, execute_batch  # noqa: E402

PATIENCE = 5.0  # seconds of virtual time, of which the watchdog may take two control periods


def boot(pico):
    """Until it is at rest; its log."""
    asleep, end = 0, pico.seconds + PATIENCE
    while asleep < 20:
        pico.run()
        asleep = asleep + 1 if pico.asleep else 0
        if pico.seconds > end:
            sys.exit("it does not come to rest")
    return pico.log()


def main():
    pico = Pico()
    for image in sys.argv[1:]:
        pico.load(image)
    sys.stdout.buffer.write(boot(pico))
    start = pico.seconds
    pico.chip.ppb.systick_int_enable = False
    while not pico.resets:
        pico.simulator.stopped = False
        execute_batch(pico.simulator, 1)
        if pico.seconds > start + PATIENCE:
            sys.exit("no watchdog resets it")
    sys.stderr.write(f"hung: reset after {1e3 * (pico.seconds - start):.1f} ms\n")
    sys.stdout.buffer.write(boot(pico))


if __name__ == "__main__":
    main()
