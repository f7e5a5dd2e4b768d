"""Verbs that talk to a server with TLS: whom they trust, and who they say they are."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.server.certificates import Root

from arriero.cli.chat import address
from arriero.cli.main import run
from arriero.config.load import parse_config
from arriero.config.tls import TlsConfig
from arriero.config.tls_checks import server_context
from arriero.testing.serving import served

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request


async def lists(request: Request) -> Response:
    return JSONResponse(STATS if "stats" in request.url.path else LISTS)


STATS: dict[str, object] = {"tasks": {}}
LISTS = {"models": {"m": {}}, "tasks": ["talk"], "memories": []}
SERVER = Starlette(routes=[Route("/v1/{what}", lists)])


@pytest.mark.parametrize("variable", [False, True])
async def test_a_root_of_ones_own_is_trusted(
    tmp_path: Path, variable: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By flag or by environment, as is the certificate that shows who asks."""
    root = Root(tmp_path)
    pair, friend = root.pair("server"), root.pair("friend")
    both = tmp_path / "both.pem"
    both.write_bytes(friend.certificate.read_bytes() + friend.key.read_bytes())
    tls = TlsConfig(certificate=pair.certificate, key=pair.key, client_ca=root.file)
    flags = ["--ca", str(root.file), "--client-certificate", str(both)]
    if variable:
        monkeypatch.setenv("ARRIERO_CA", str(root.file))
        monkeypatch.setenv("ARRIERO_CLIENT_CERTIFICATE", str(both))
        flags = []
    async with served(SERVER, context=lambda: server_context(tls)) as url:
        status = await asyncio.to_thread(run, ["ps", "--url", url, *flags])

    assert status == 0
    assert "talk" in capsys.readouterr().out


async def test_a_server_that_wants_a_certificate_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason reaches whoever has none."""
    root = Root(tmp_path)
    pair = root.pair("server")
    tls = TlsConfig(certificate=pair.certificate, key=pair.key, client_ca=root.file)
    async with served(SERVER, context=lambda: server_context(tls)) as url:
        status = await asyncio.to_thread(run, ["ps", "--url", url, "--ca", str(root.file)])

    assert status != 0
    assert re.search(f"no answer from {url}: .*certificate required", capsys.readouterr().err)


async def test_an_unknown_root_is_not_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verb fails, and says that it is a matter of trust."""
    pair = Root(tmp_path).pair("server")
    tls = TlsConfig(certificate=pair.certificate, key=pair.key)
    async with served(SERVER, context=lambda: server_context(tls)) as url:
        status = await asyncio.to_thread(run, ["ps", "--url", url])

    assert status != 0
    assert f"{url} is not to be trusted: " in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--ca", "--client-certificate"])
@pytest.mark.parametrize("content", [None, "nonsense"])
def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, flag: str, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is sent."""
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)

    assert run(["ps", "--url", "https://127.0.0.1:1", flag, str(file)]) == 2
    assert f"{file}: no " in capsys.readouterr().err


def test_a_conversation_goes_where_the_configuration_says(tmp_path: Path) -> None:
    """With the scheme that it serves."""
    pair = Root(tmp_path).pair("server")
    bound = 'auth.public = true\n[server]\nbind_address = "0.0.0.0:8443"\n'
    tls = f'tls = {{ certificate = "{pair.certificate}", key = "{pair.key}" }}\n'

    assert address(parse_config(bound + tls, {})) == "https://127.0.0.1:8443"
    assert address(parse_config(bound, {})) == "http://127.0.0.1:8443"
