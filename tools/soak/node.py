"""The encoder node as it is, but for one thing: after SIGUSR1 the engine that is open raises at
each run, for good.

So a lost device can be had in a process of its own. An engine that is opened later works.
"""

import signal
import threading

from vit_perception.engines.engine import Engine
from vit_perception.ros import start

REASON = "the device is lost (injected by SIGUSR1)"


def main() -> int:
    lose, lost = threading.Event(), []
    signal.signal(signal.SIGUSR1, lambda *unused: lose.set())
    infer = Engine.infer

    def infer_unless_lost(engine: Engine, images):
        if lose.is_set():
            lose.clear()
            lost.append(engine)
        if any(engine is one for one in lost):
            raise RuntimeError(REASON)
        return infer(engine, images)

    Engine.infer = infer_unless_lost
    return start.main()


if __name__ == "__main__":
    raise SystemExit(main())
