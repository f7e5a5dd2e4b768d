"""`arriero token`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.access.forge import Keys

from arriero.access.jwt import read_token
from arriero.access.keyring import Keyring
from arriero.access.principal import Grants
from arriero.cli.main import run
from arriero.config.load import parse_config
from arriero.errors import Unauthorized

SECRET = '[auth]\njwt_private_key = { symmetric = "the shared secret of the tests, long enough" }\n'


def made(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["token", *arguments]) == 0
    return capsys.readouterr().out.strip()


def test_a_token_for_a_task_is_taken_by_a_server_with_the_same_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-t a -s bob` as with Poly's tool: subject, tasks, an hour."""
    (tmp_path / "a.toml").write_text(SECRET)
    text = made(["-t", "a", "-s", "bob", "--config", str(tmp_path / "a.toml")], capsys)
    claims = read_token(text).claims
    principal = Keyring.from_config(parse_config(SECRET, {})).identify(text)

    assert (claims.sub, claims.tasks, claims.models) == ("bob", ("a",), None)
    assert abs(claims.exp - time.time() - 3600) < 60
    assert (principal.name, principal.grants) == ("bob", Grants(tasks=("a",)))


def test_claims_and_lifetime_are_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Issuer and audience of the configuration are put in unless others are given."""
    file = tmp_path / "a.toml"
    file.write_text(SECRET.replace(" }", ', issuer = "i", audience = "a" }'))
    asked = [
        "--no-tasks",
        "--model",
        "m",
        "--memory",
        "x",
        "--lifetime",
        "15m",
        "--audience",
        "b",
        "--priority",
        "high",
    ]
    claims = read_token(made([*asked, "--config", str(file)], capsys)).claims

    assert (claims.tasks, claims.models, claims.memories) == ((), ("m",), ("x",))
    assert (claims.iss, claims.aud, claims.sub, claims.priority) == ("i", "b", None, "high")
    assert abs(claims.exp - time.time() - 900) < 60


@pytest.mark.parametrize(("kind", "algorithm"), [("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")])
async def test_a_private_key_signs_for_a_server_that_knows_the_public_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, algorithm: str
) -> None:
    """Each kind of key signs with its one algorithm; a server with another key refuses."""
    private = getattr(Keys.new(), kind)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "public.pem").write_bytes(public)
    text = made(["--key", str(tmp_path / "key.pem"), "--issuer", "i", "--audience", "a"], capsys)
    config = f"""
        [auth]
        issuers = [{{ issuer = "i", audience = "a", algorithm = "{algorithm}",
                      public_key_file = "{tmp_path}/public.pem" }}]
        """
    config = config.replace(",\n                      ", ", ")

    assert (await Keyring.from_config(parse_config(config, {})).identified(text)).grants == Grants()
    with pytest.raises(Unauthorized):
        await Keyring.from_config(parse_config(config.replace('"i"', '"j"'), {})).identified(text)


def test_without_a_secret_one_is_suggested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line can be put into the configuration as it stands."""
    file = tmp_path / "a.toml"
    file.write_text("")
    assert run(["token", "--config", str(file)]) == 2
    suggested = capsys.readouterr().err.splitlines()[-1]

    file.write_text(suggested)
    assert len(made(["--config", str(file)], capsys).split(".")) == 3


@pytest.mark.parametrize("content", [b"", b"no key"])
def test_a_file_that_is_no_private_key_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    """The message names the file."""
    (tmp_path / "key.pem").write_bytes(content)

    assert run(["token", "--key", str(tmp_path / "key.pem")]) == 2
    assert "key.pem: not a private key without password (PEM)" in capsys.readouterr().err
