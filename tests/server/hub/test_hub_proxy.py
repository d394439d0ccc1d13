"""The proxy's filter, with a stand-in for the SuperLink behind it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from fedloupe_server.hub.proxy import MAX_BODY, proxy


def through(method, path, *, upstream=None, content=b"body", headers=None):
    """One request through the proxy: its answer, and the requests that reached the stand-in."""
    seen = []

    def superlink(request):
        seen.append(request)
        return upstream(request) if upstream else httpx.Response(200, content=b"answer", headers={"x-flower": "kept"})

    async def go():
        behind = httpx.AsyncClient(transport=httpx.MockTransport(superlink), base_url="https://superlink")
        front = httpx.ASGITransport(app=proxy(behind))
        async with httpx.AsyncClient(transport=front, base_url="https://proxy") as client:
            return await client.request(method, path, content=content, headers=headers)

    return asyncio.run(go()), seen


class TestTheFilter:
    @pytest.mark.parametrize("verb", ["activate-node", "pull-messages", "push-object", "get-fab"])
    def test_fleet_routes_pass(self, verb):
        answer, seen = through("POST", f"/v1/fleet/{verb}")
        assert (answer.status_code, answer.content) == (200, b"answer")
        assert (seen[0].url.path, seen[0].content) == (f"/v1/fleet/{verb}", b"body")

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/docs",
            "/openapi.json",
            "/health",
            "/v1/control/start-run",
            "/v1/runtime/acquire-task",
            "/v1/fleet",
            "/v1/fleet/",
            "/v1/fleet/../control/start-run",
            "/v1/fleet/%2e%2e/control/start-run",
            "/v1/fleet/x%2f..%2f..%2fcontrol%2fstart-run",
            "/v1/fleet//control",
            "//v1/fleet/pull-messages",
            "/V1/FLEET/pull-messages",
            "/v1/fleet/pull-messages/more",
            "/v1/fleet/pull-messages?x=1",
            "/v1/fleet/pull-messages%0d%0a",
        ],
    )
    def test_everything_else_is_not_found_and_never_reaches_the_superlink(self, path):
        answer, seen = through("POST", path)
        assert (answer.status_code, seen) == (404, [])

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_only_post_passes(self, method):
        answer, seen = through(method, "/v1/fleet/pull-messages")
        assert (answer.status_code, seen) == (404, [])

    def test_a_body_beyond_the_limit_is_refused(self):
        answer, seen = through("POST", "/v1/fleet/push-object", content=bytes(MAX_BODY + 1))
        assert (answer.status_code, seen) == (413, [])


class TestWhatPasses:
    def test_signatures_pass_and_hop_by_hop_headers_do_not(self):
        _, seen = through(
            "POST", "/v1/fleet/pull-messages", headers={"flwr-signature": "abc", "te": "trailers", "upgrade": "h2c"}
        )
        assert seen[0].headers["flwr-signature"] == "abc"
        assert not {"te", "upgrade"} & set(seen[0].headers)

    def test_the_answers_headers_and_status_pass(self):
        answer, _ = through("POST", "/v1/fleet/pull-messages")
        assert answer.headers["x-flower"] == "kept"
        refused, _ = through("POST", "/v1/fleet/pull-messages", upstream=lambda _: httpx.Response(401, content=b"no"))
        assert (refused.status_code, refused.content) == (401, b"no")

    def test_a_failing_superlink_asks_for_a_retry_because_a_500_ends_a_supernode(self):
        answer, _ = through("POST", "/v1/fleet/pull-messages", upstream=lambda _: httpx.Response(500))
        assert answer.status_code == 503

    def test_an_absent_superlink_asks_for_a_retry(self):
        def absent(request):
            raise httpx.ConnectError("refused", request=request)

        answer, _ = through("POST", "/v1/fleet/pull-messages", upstream=absent)
        assert answer.status_code == 503
