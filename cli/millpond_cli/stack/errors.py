"""What can go wrong with a stack; each message tells a person what to do.

StackError
 ├── PortTaken        another program has one of the ports
 ├── AlreadyUp        a stack runs in this folder
 ├── NotUp            no stack runs in this folder
 ├── NotSetUp         something that a component needs was not set up
 └── DidNotStart      a component ended, or hung, before it was ready
"""


class StackError(Exception):
    pass


class PortTaken(StackError):
    pass


class AlreadyUp(StackError):
    pass


class NotUp(StackError):
    pass


class NotSetUp(StackError):
    pass


class DidNotStart(StackError):
    pass
