from millpond_core.service import run
from millpond_router.app import serve
from millpond_router.settings import RouterSettings

if __name__ == "__main__":
    run("millpond-router", RouterSettings, serve)
