"""FastAPI: `FastAPI(lifespan=...)`, `Depends(get_queue)`, tasks with dependencies."""
