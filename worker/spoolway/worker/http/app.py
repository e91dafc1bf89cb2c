"""The three paths. Answers are small, and say nothing that is secret or of use to an attacker."""

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spoolway.worker.http.health import liveness
from spoolway.worker.http.metrics import registry_of
from spoolway.worker.http.monitor import Monitor


def app_of(monitor: Monitor) -> Starlette:
    """Return the ASGI application. GET and HEAD; anything else is refused."""
    registry = registry_of(monitor)

    async def healthz(_request: Request) -> Response:
        status = liveness(monitor.progress)
        return JSONResponse({"status": status}, 503 if status == "wedged" else 200)

    async def readyz(_request: Request) -> Response:
        reasons = monitor.unready()
        return JSONResponse(
            {"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200
        )

    async def metrics(_request: Request) -> Response:
        await monitor.look()
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )
