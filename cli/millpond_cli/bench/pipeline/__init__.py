"""How fast the pipeline is: its hops beside bare loops on the same broker, and one request from end to end.

    ai.requests ─▶ router ─▶ ai.routed ─▶ cache hop ─▶ ai.batch.standard ─▶ batcher hop ─▶ ai.results
         └▶ bare Faust agents      └▶ bare loop

Each contender is a process of its own, works off what waits on its topic, and is measured by the times at which the
broker appended what it wrote. hops.py drives them, latency.py sends single requests through a whole stack.
"""
