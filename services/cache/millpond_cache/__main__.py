from millpond_cache.app import serve
from millpond_cache.settings import CacheServiceSettings
from millpond_core.service import run

run("millpond-cache", CacheServiceSettings, serve)
