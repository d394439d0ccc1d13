"""The door to the internet: a TLS proxy that forwards POST /v1/fleet/<verb> to the SuperLink; all else is 404.

    python -m fedloupe_server.hub.proxy --port 8443 --upstream https://127.0.0.1:8000 \
        --authority ca.crt --certificate server.crt --key server.key

Behind the same port the SuperLink serves its control and runtime interfaces, which ask nobody for a password.
"""

from __future__ import annotations

import argparse
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

# On the raw path: no dots, no percent signs, no further slash can pass.
_FLEET = re.compile(rb"/v1/fleet/[a-z]+(-[a-z]+)*")
_HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"),
    *("upgrade", "host", "content-length", "accept-encoding"),
}  # RFC 9110, 7.6.1, and what httpx writes itself
MAX_BODY = 32 * 2**20  # Flower cuts arrays into 5 MiB
RETRY = 503  # a SuperNode tries again after 503 and dies of 500


def proxy(upstream: httpx.AsyncClient) -> Starlette:
    """The application; `upstream` has the SuperLink as its base URL."""

    async def forward(request: Request) -> Response:
        path: bytes = request.scope["raw_path"]
        if request.method != "POST" or not _FLEET.fullmatch(path) or request.scope["query_string"]:
            return PlainTextResponse("not found", 404)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                return PlainTextResponse("too large", 413)
        headers = [(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP]
        try:
            answer = await upstream.post(
                path.decode("ascii"), content=bytes(body), headers=[*headers, ("accept-encoding", "identity")]
            )
        except httpx.TransportError:
            return PlainTextResponse("the SuperLink is not there", RETRY)
        if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
            return PlainTextResponse("the SuperLink failed", RETRY)
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
        return Response(answer.content, answer.status_code, kept)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with upstream:
            yield

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]  # so that all of them get the same 404
    return Starlette(routes=[Route("/{path:path}", forward, methods=methods)], lifespan=lifespan)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="fedloupe_server.hub.proxy", description="Forwards the fleet routes alone.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="https://host:port of the SuperLink")
    parser.add_argument("--authority", type=Path, required=True, help="CA certificate of the SuperLink (PEM)")
    parser.add_argument("--certificate", type=Path, required=True, help="this proxy's certificate (PEM)")
    parser.add_argument("--key", type=Path, required=True, help="its private key (PEM)")
    given = parser.parse_args()
    upstream = httpx.AsyncClient(
        base_url=given.upstream,
        verify=ssl.create_default_context(cafile=given.authority),
        timeout=60.0,
        trust_env=False,  # a proxy variable of the machine must not send this elsewhere
    )
    uvicorn.run(
        proxy(upstream),
        host=given.host,
        port=given.port,
        ssl_certfile=given.certificate,
        ssl_keyfile=str(given.key),
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main()
