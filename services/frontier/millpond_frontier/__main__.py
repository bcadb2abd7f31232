from millpond_core.service import run
from millpond_frontier.app import serve
from millpond_frontier.settings import FrontierSettings

run("millpond-frontier", FrontierSettings, serve)
