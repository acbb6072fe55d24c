"""``python -m tests.bench.bare_server PORT BYTES``: the least that aiohttp does for one route with one answer."""

from __future__ import annotations

import sys

from aiohttp import web

from api.rest.requests import PATH


def main() -> None:
    """Serves until it is ended."""
    port, size = int(sys.argv[1]), int(sys.argv[2])
    body, headers = b'"' + b"x" * (size - 2) + b'"', {"Content-Type": "application/json"}

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers)

    app = web.Application()
    app.router.add_route("GET", PATH, answer)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main()
