"""What /docs and /openapi.json say beyond what FastAPI finds out by itself."""
