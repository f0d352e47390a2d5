"""Stand-ins that speak each provider's native API on loopback, with faults on demand.

    async with Simulator() as sim:
        sim.script("anthropic", Turn(text="Hi"), Fault(status=529), Fault(kind="reset"))
        client = AsyncAnthropic(base_url=sim.url("anthropic"), api_key="sim-key")

They are strict: what the real API refuses is refused here, with its status, error type and wording. The
package imports nothing else of the gateway, so a translation is tested against an independent reading of the
documents.
"""

from .http import Call
from .kinds import KINDS as FAULTS
from .script import Fault, ToolCall, Turn, Usage, parse_step
from .server import Simulator, serve

__all__ = ["FAULTS", "Call", "Fault", "Simulator", "ToolCall", "Turn", "Usage", "parse_step", "serve"]
