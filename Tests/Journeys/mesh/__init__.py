"""A small cluster on one Linux machine, for the journeys and the demo.

`Mesh` holds simulated nodes; a node holds pods; `WeftNode` is the product running on a node. Everything that outlives
a Python process (namespaces, cgroups, pins, processes) is written into a ledger first, so a crashed run's leftovers
are removed by the next one.
"""

from .ledger import Ledger, sweep
from .machine import Missing, requirements
from .metrics import Metrics
from .pods import Pod
from .waiting import eventually
from .weft import WeftNode
from .world import Mesh, SimulatedNode

__all__ = ["Ledger", "Mesh", "Metrics", "Missing", "Pod", "SimulatedNode", "WeftNode", "eventually", "requirements", "sweep"]
