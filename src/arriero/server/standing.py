"""What stays while configurations come and go: accounts, tickets, counts, and what is served just now."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arriero.access.failures import AuthFailures
from arriero.access.tickets import Tickets
from arriero.engine.heap import give_back
from arriero.server.observe import Observer
from arriero.server.pressure import Pressure
from arriero.server.rates import Rates

if TYPE_CHECKING:
    from arriero.config.schema import Config
    from arriero.metrics import Exposition
    from arriero.server.context import Context
    from arriero.server.edge.edge import Edge
    from arriero.server.log import LogWriter


@dataclass
class Standing:
    """One per server process. `context` is the newest one: requests that began before keep their own."""

    rates: Rates
    observer: Observer
    pressure: Pressure = field(default_factory=Pressure)
    tickets: Tickets = field(default_factory=Tickets)
    auth_failures: AuthFailures = field(default_factory=AuthFailures)
    started_at: float = field(default_factory=time.monotonic)
    context: Context | None = None
    edge: Edge | None = None
    exposition: Exposition | None = None
    is_draining: bool = False
    """Whether the server is told to stop."""
    reloads: dict[str, int] = field(default_factory=lambda: {"done": 0, "refused": 0})
    log_writer: LogWriter | None = None

    @classmethod
    def of_config(cls, config: Config) -> Standing:
        """Begin to count. Raises ConfigError when the usage store cannot be used."""
        rates = Rates(config.auth)
        return cls(rates, Observer(config.telemetry, rates))

    def look(self) -> None:
        """See how short memory is, and let engines give up what they can do without; called each second."""
        if self.context is None or not self.context.runtime.config.limits.memory_pressure:
            self.pressure.forget()
            return
        self.pressure.look()
        if self.pressure.level:
            for model in self.context.runtime.models.values():
                model.shrink()
            give_back()

    def close(self) -> None:
        """Keep what is to be kept, once no request is served any more."""
        self.observer.close()
        self.rates.close()
