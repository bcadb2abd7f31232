"""The local stack: real components as processes of this machine, without containers."""

from millpond_cli.stack.addresses import Addresses
from millpond_cli.stack.components import COMPONENTS, DEFAULT_PORT_BASE, MODELS
from millpond_cli.stack.detached import down, up
from millpond_cli.stack.ending import signals_end
from millpond_cli.stack.errors import AlreadyUp, DidNotStart, NotSetUp, NotUp, PortTaken, StackError
from millpond_cli.stack.stack import Stack, clean_up, free_port_base, running, running_state
from millpond_cli.stack.state import ComponentState, State

__all__ = [
    "COMPONENTS",
    "DEFAULT_PORT_BASE",
    "MODELS",
    "Addresses",
    "AlreadyUp",
    "ComponentState",
    "DidNotStart",
    "NotSetUp",
    "NotUp",
    "PortTaken",
    "Stack",
    "StackError",
    "State",
    "clean_up",
    "down",
    "free_port_base",
    "running",
    "running_state",
    "signals_end",
    "up",
]
