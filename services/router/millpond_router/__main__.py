import os

# A decision is many small products: threads that wait for each other take longer than one that works, ten times so on a
# machine that is busy. numpy reads it when it is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from millpond_core.service import run
from millpond_router.app import serve
from millpond_router.settings import RouterSettings

if __name__ == "__main__":
    run("millpond-router", RouterSettings, serve)
