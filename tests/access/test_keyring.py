"""Who bears a key or a token, and for how long."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.access.forge import NOW, SECRET, claims, hs, token

from arriero.access.jwt import Expected, SharedSecret
from arriero.access.key_store import KeyStore, NewKey
from arriero.access.keyring import BAD_TOKEN, MISTYPED, NO_TOKEN, Keyring, Signer
from arriero.access.principal import EVERYTHING, Grants, Need, Principal, Source, may
from arriero.config.auth import KeyLimits
from arriero.config.load import parse_config
from arriero.errors import Unauthorized

SIGNER = Signer(SharedSecret(SECRET), Expected())
LIMITS = KeyLimits(requests_per_minute=7)


def text(**changes: Any) -> str:
    return token({"alg": "HS256"}, claims(**changes), hs(SECRET.encode()))


def refusal(keyring: Keyring, secret: str | None) -> str:
    with pytest.raises(Unauthorized) as refused:
        keyring.identify(secret)
    return refused.value.message


@pytest.mark.parametrize(
    ("keyring", "secret", "expected"),
    [
        (Keyring(["sesame"]), None, NO_TOKEN),
        (Keyring(["sesame"]), "bad", BAD_TOKEN),
        (Keyring(["sesame"], public=True), "bad", BAD_TOKEN),
        (Keyring(["sesame"], signers=(SIGNER,)), "bad", "invalid JWT token"),
        (Keyring(["sesame"], signers=(SIGNER,)), "arriero_bad", MISTYPED),
        (Keyring(), "bad", BAD_TOKEN),
    ],
)
def test_refusals_have_polys_words(keyring: Keyring, secret: str | None, expected: str) -> None:
    """A wrong key is wrong on a public server too."""
    assert refusal(keyring, secret) == expected


@pytest.mark.parametrize("secret", [None, "sk-none", "\udc80"])
def test_a_public_server_without_keys_takes_everybody(secret: str | None) -> None:
    """Clients that cannot but send a key are served where nobody has one; nobody is an admin."""
    principal = Keyring(public=True).identify(secret)

    assert (principal.tenant, principal.source, principal.grants) == ("", Source.NOBODY, EVERYTHING)
    assert not may(principal, "admin", "server")


def test_a_key_of_the_configuration_opens_everything_but_the_keys() -> None:
    """Each such key is a tenant of its own, named by a digest; it cannot make keys."""
    keyring = Keyring(["sesame", "other"], limits=LIMITS)
    principal, other = keyring.identify("sesame"), keyring.identify("other")

    assert (principal.source, principal.grants, principal.limits) == (Source.CONFIG, EVERYTHING, LIMITS)
    assert principal.tenant != other.tenant
    assert "sesame" not in repr(principal)
    assert not may(principal, "admin", "server")


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, KeyLimits(requests_per_minute=7, priority="low")),
        (KeyLimits(priority="high"), KeyLimits(requests_per_minute=7, priority="high")),
        (KeyLimits(tokens_per_day=9), KeyLimits(tokens_per_day=9, priority="low")),
        (KeyLimits(tokens_per_day=9, priority="high"), KeyLimits(tokens_per_day=9, priority="high")),
        (KeyLimits(), KeyLimits(priority="low")),
    ],
)
def test_a_keys_own_limits_replace_all_but_a_priority_alone_none(
    tmp_path: Path, own: KeyLimits | None, expected: KeyLimits
) -> None:
    """Whoever gives a key a priority does not take its limits away."""
    with closing(KeyStore(tmp_path / "keys.sqlite")) as store:
        limits = KeyLimits(requests_per_minute=7, priority="low")
        keyring = Keyring(store=store, limits=limits, clock=lambda: NOW)
        _, secret = store.create(NewKey("bob", limits=own), NOW)

        assert keyring.identify(secret).limits == expected


def test_a_token_says_its_priority_and_keeps_it() -> None:
    """It stands before that of the configuration, also when a socket's token is looked at again."""
    keyring = Keyring(signers=(SIGNER,), limits=LIMITS, clock=lambda: NOW)
    high, plain = keyring.identify(text(priority="high")), keyring.identify(text())

    assert (high.priority, plain.priority) == ("high", "normal")
    assert keyring.renewed(high).limits == high.limits == KeyLimits(requests_per_minute=7, priority="high")
    assert refusal(keyring, text(priority="urgent")) == "invalid JWT token"


def test_a_stored_key_is_the_same_tenant_after_a_rotation(tmp_path: Path) -> None:
    """Caches and counts belong to the key, not to its secret; its own limits stand before the server's."""
    with closing(KeyStore(tmp_path / "keys.sqlite")) as store:
        keyring = Keyring(store=store, limits=LIMITS, clock=lambda: NOW)
        key, first = store.create(NewKey("bob", Grants(tasks=("a",)), KeyLimits()), NOW)
        before = keyring.identify(first)
        _, second = store.rotate(key.id, NOW)
        after = keyring.identify(second)

    assert before.tenant == after.tenant
    assert (before.name, before.grants, before.limits) == (key.id, Grants(tasks=("a",)), KeyLimits())


def test_the_bearer_of_a_token_is_its_subject() -> None:
    """Two tokens of one subject are one tenant; without a subject each token is its own."""
    keyring = Keyring(signers=(SIGNER,), clock=lambda: NOW)
    first, second = keyring.identify(text()), keyring.identify(text(exp=NOW + 60, tasks=["a"]))
    nameless = {keyring.identify(text(sub=None, jti=id)).tenant for id in ("1", "2")}
    others = {keyring.identify(text(sub=sub, iss=iss)).tenant for sub, iss in (("bob", "x"), ("ob", "xb"))}

    assert (first.name, first.tenant) == ("bob", second.tenant)
    assert second.grants == Grants(tasks=("a",))
    assert len({first.tenant, *nameless, *others, ""}) == 6


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


def test_what_lasts_longer_is_looked_at_again(tmp_path: Path) -> None:
    """A revoked key and a token that has expired since are refused; all others go on as they are now."""
    clock = Clock()
    with closing(KeyStore(tmp_path / "keys.sqlite")) as store:
        key, secret = store.create(NewKey("bob"), NOW)
        keyring = Keyring(["sesame"], public=True, signers=(SIGNER,), store=store, clock=clock)
        bearers = [keyring.identify(one) for one in (None, "sesame", secret, text(exp=NOW + 10))]
        assert [keyring.renewed(bearer) for bearer in bearers] == bearers

        store.revoke(key.id, NOW)
        clock.now = NOW + 70.0
        held = []
        for bearer in bearers:
            try:
                held.append(keyring.renewed(bearer).source)
            except Unauthorized:
                held.append(None)

    assert held == [Source.NOBODY, Source.CONFIG, None, None]


def test_whoever_is_known_is_bound_by_what_tasks_need() -> None:
    """A right to a task alone is none where the task reads a memory, however its bearer is known."""
    needs = {"task/t": (Need("read", "memory/m"),)}
    keyring = Keyring(["sesame"], public=True, signers=(SIGNER,), needs=needs, clock=lambda: NOW)
    bearers = [keyring.identify(one) for one in (None, "sesame", text(tasks=["t"], memories=[]))]

    assert [bearer.needs for bearer in bearers] == [needs] * 3
    assert [may(bearer, "use", "task/t") for bearer in bearers] == [True, True, False]


@pytest.mark.parametrize("source", list(Source))
def test_a_principal_that_nobody_vouches_for_is_not_renewed(source: Source) -> None:
    """A keyring without the key, and not public, refuses; so a key taken out of the configuration ends."""
    with pytest.raises(Unauthorized):
        Keyring(["sesame"]).renewed(Principal(source=source, digest=b"x" * 32, expires_at=2.0**40))


def test_a_configuration_says_all_that_opens(tmp_path: Path) -> None:
    """Keys, the store, the secret with its leeway, limits, and what tasks need."""
    config = parse_config(
        f"""
        [auth]
        allowed_keys = ["sesame"]
        key_store = "{tmp_path}/keys.sqlite"
        jwt_private_key = {{ symmetric = "{SECRET}", issuer = "i", audience = "a" }}
        jwt_leeway_s = 0
        key_limits = {{ requests_per_minute = 7 }}
        """,
        {},
    )
    with closing(Keyring.from_config(config)) as keyring:
        assert keyring.store is not None
        assert keyring.identify("sesame").limits == LIMITS
        good = text(iss="i", aud="a", exp=2**40)
        assert keyring.identify(good).expires_at == 2**40
        for wrong in (text(iss="j", aud="a", exp=2**40), text(iss="i", aud="b", exp=2**40)):
            assert refusal(keyring, wrong) == "invalid JWT token"
