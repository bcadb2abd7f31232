from millpond_batcher.app import serve
from millpond_batcher.settings import BatcherSettings
from millpond_core.service import run

run("millpond-batcher", BatcherSettings, serve)
