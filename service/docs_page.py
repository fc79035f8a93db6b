"""`/docs`: Swagger UI out of a package, so that it works where there is no internet."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

_FILES: Final = "/docs/files"


def install(app: FastAPI) -> None:
    """Serve the page at `/docs`; the application must have been made with `docs_url=None`."""
    app.mount(_FILES, StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs_files")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="Prunery: the HTTP API",
            swagger_js_url=f"{_FILES[1:]}/swagger-ui-bundle.js",
            swagger_css_url=f"{_FILES[1:]}/swagger-ui.css",
            swagger_favicon_url=f"{_FILES[1:]}/favicon-32x32.png",
            swagger_ui_parameters={"displayRequestDuration": True, "defaultModelsExpandDepth": 0},
        )
