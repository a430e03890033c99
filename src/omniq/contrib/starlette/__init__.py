"""Starlette: `Starlette(lifespan=...)`; FastAPI has its own room above this one."""
