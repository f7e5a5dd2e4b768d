"""Which files of [server.tls] can be served with, and what is said of those that cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.server.certificates import Root

from arriero.config.load import check, load_config
from arriero.config.show import shown
from arriero.errors import ConfigError

BEGINNING = '[models.m]\nurl = "http://127.0.0.1:1/m.gguf"\n[auth]\npublic = true\n'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of good and bad files."""
    directory = tmp_path_factory.mktemp("tls")
    root = Root(directory)
    root.pair("good")
    root.pair("other")
    root.pair("locked", password=b"sesame")
    root.pair("old", days=-1)
    root.pair("early", days=30)
    (directory / "empty.pem").write_text("")
    (directory / "noise.pem").write_text("-----BEGIN CERTIFICATE-----\nnoise\n-----END CERTIFICATE-----\n")
    (directory / "password").write_text("sesame\n")
    return directory


def written(files: Path, tls: str) -> Path:
    file = files / "arriero.toml"
    file.write_text(f"{BEGINNING}[server.tls]\n{tls}\n")
    return file


def pair(certificate: str, key: str, *more: str) -> str:
    return "\n".join([f'certificate = "{certificate}"', f'key = "{key}"', *more])


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (pair("none.pem", "good.key"), "server.tls.certificate: "),
        (pair("none.pem", "good.key"), "none.pem cannot be read: No such file or directory"),
        (pair("good.pem", "none.key"), "none.key cannot be read: No such file or directory"),
        (pair(".", "good.key"), "cannot be read: Is a directory"),
        (pair("good.pem", "other.key"), "server.tls.key: "),
        (pair("good.pem", "other.key"), "other.key is not the key of "),
        (pair("empty.pem", "good.key"), "empty.pem holds no certificate in PEM form"),
        (pair("noise.pem", "good.key"), "noise.pem holds no certificate in PEM form"),
        (pair("good.key", "good.key"), "good.key holds no certificate in PEM form"),
        (pair("good.pem", "good.pem"), "server.tls.key: "),
        (pair("good.pem", "good.pem"), "good.pem holds no private key in PEM form"),
        (pair("good.pem", "empty.pem"), "empty.pem holds no private key in PEM form"),
        (pair("locked.pem", "locked.key"), "server.tls.key: it is encrypted; give its password"),
        (pair("locked.pem", "locked.key", 'key_password = "wrong"'), "server.tls.key_password: it does not"),
        (pair("locked.pem", "locked.key", f'key_password = "{"x" * 2000}"'), "server.tls.key_password: it "),
        (pair("locked.pem", "locked.key", 'key_password_env = "GONE"'), "server.tls.key_password_env: the "),
        (
            pair("locked.pem", "locked.key", 'key_password = "a"', 'key_password_file = "password"'),
            "give one of key_password, key_password_env, key_password_file",
        ),
        (pair("good.pem", "good.key", 'client_ca = "none.pem"'), "server.tls.client_ca: "),
        (pair("good.pem", "good.key", 'client_ca = "noise.pem"'), "noise.pem holds no certificate"),
        ('certificate = "good.pem"', "key"),
        (pair("good.pem", "good.key", 'ciphers = "all"'), "server.tls.ciphers: unknown key"),
    ],
)
def test_what_cannot_be_served_with_is_refused(files: Path, tls: str, message: str) -> None:
    """Each fault names its key, and the file; nothing asks on the terminal."""
    with pytest.raises(ConfigError) as caught:
        load_config(written(files, tls), {})

    assert message in caught.value.message


@pytest.mark.parametrize(
    "more",
    ['key_password = "sesame"', 'key_password_env = "PASSWORD"', 'key_password_file = "password"'],
)
def test_an_encrypted_key_is_opened(files: Path, more: str) -> None:
    """With the password from the file, the environment, or a file of its own; it is never shown."""
    config = load_config(written(files, pair("locked.pem", "locked.key", more)), {"PASSWORD": "sesame"})

    assert config.server.tls is not None
    assert config.server.tls.key_password == "sesame"
    assert "sesame" not in shown(config)


def test_the_environment_may_name_the_files(files: Path) -> None:
    """As it may set any key."""
    file = files / "plain.toml"
    file.write_text(BEGINNING)
    named = {
        "ARRIERO_SERVER__TLS__CERTIFICATE": str(files / "good.pem"),
        "ARRIERO_SERVER__TLS__KEY": str(files / "good.key"),
    }

    assert load_config(file, named).server.scheme == "https"
    assert load_config(file, {}).server.scheme == "http"


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("good", []),
        ("old", ["server.tls.certificate: clients will refuse it: certificate has expired"]),
        ("early", ["server.tls.certificate: clients will refuse it: certificate is not yet valid"]),
    ],
)
def test_a_certificate_out_of_its_time_is_warned_of(files: Path, name: str, warned: list[str]) -> None:
    """It is served all the same: the clock of this machine may be the one that is wrong."""
    warnings = check(written(files, pair(f"{name}.pem", f"{name}.key", 'client_ca = "root.pem"')), {})

    assert [line.partition(": ")[2] for line in warnings if "server.tls" in line] == warned


def test_a_weak_certificate_is_refused(files: Path) -> None:
    """The library's limits are ours; what it says of a short key is passed on."""

    Root(files, "weak").pair("short", key=rsa.generate_private_key(65537, 1024))

    with pytest.raises(ConfigError, match=r"server\.tls\.certificate: it cannot be used: ee key too small"):
        load_config(written(files, pair("short.pem", "short.key")), {})
