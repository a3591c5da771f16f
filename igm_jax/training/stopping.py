"""Stopping on a signal, in all processes after the same step."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from igm_jax import parallel


class Stopping:
    """Stops a run on SIGTERM or Ctrl-C: finish the current step, save, exit.

    A signal may reach one process or all of them, at different steps. So with many processes each
    step asks for the greatest signal number that any of them has, a single number across the
    mesh, and reads the result of the step before. Nobody waits, and all read the same.

    Args:
      mesh: the devices of all processes.

    Attributes:
      received: name of the signal that came to this process, or None.
    """

    def __init__(self, mesh: Mesh):
        self.received: str | None = None
        self._split = parallel.split_batch(mesh)
        self._greatest = jax.jit(jnp.max, out_shardings=parallel.replicated(mesh))
        self._question, self._answer = None, None

    def agreed(self) -> str | None:
        """The signal to stop for, the same in all processes; each calls this once a step."""
        if jax.process_count() == 1:
            return self.received
        answer = 0 if self._answer is None else int(self._answer)
        if self._question is None or self.received:
            self._question = self._ask(signal.Signals[self.received] if self.received else 0)
        self._answer = self._greatest(self._question)
        return signal.Signals(answer).name if answer else None

    def _ask(self, number: int) -> jax.Array:
        """Makes an array with one number for each device."""
        mine = np.full(len(self._split.addressable_devices), number, np.int32)
        return jax.make_array_from_process_local_data(self._split, mine)

    def __enter__(self) -> "Stopping":
        def note(number, _):
            if self.received and number == signal.SIGINT:
                raise KeyboardInterrupt  # a second Ctrl-C stops at once
            self.received = signal.Signals(number).name

        self._old = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, note)
        except ValueError:  # not the main thread: whoever runs us there handles signals
            pass
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
