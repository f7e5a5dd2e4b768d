"""A matrix of tokens: exactly the expected ones open the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.access.forge import AUDIENCE, ISSUER, NOW, SECRET, Keys, Sign, b64, claims, hs, token

from arriero.access.jwks import IssuerKeys
from arriero.access.jwt import Expected, SharedSecret
from arriero.access.keyring import Keyring, Signer
from arriero.config.auth import IssuerConfig
from arriero.errors import Unauthorized


class Case(NamedTuple):
    """A token, and whether it must be taken."""

    name: str
    text: str
    is_good: bool


KEYS, OTHERS = Keys.new(), Keys.new()
GOOD: dict[str, Sign] = {
    "HS256": hs(SECRET.encode()),
    "RS256": KEYS.rs,
    "ES256": KEYS.es,
    "EdDSA": KEYS.eddsa,
}
KIDS = {"HS256": None, "RS256": "rsa", "ES256": "ec", "EdDSA": "ed"}
SIGNERS: dict[str, Sign] = {
    **GOOD,
    "wrong secret": hs(b"wrong"),
    "empty secret": hs(b""),
    "HS384": hs(SECRET.encode(), "sha384"),
    "HS512": hs(SECRET.encode(), "sha512"),
    "public PEM as secret": hs(KEYS.pem()),
    "stripped PEM as secret": hs(KEYS.pem().strip()),
    "public DER as secret": hs(KEYS.der()),
    "key set as secret": hs(json.dumps(KEYS.jwks()).encode()),
    "other RSA": OTHERS.rs,
    "other EC": OTHERS.es,
    "other Ed": OTHERS.eddsa,
    "RS512": KEYS.rs512,
    "PS256": KEYS.ps,
    "ES256 as DER": KEYS.es_der,
    "ES384": KEYS.es384,
    "nothing": lambda signed: b"",
    "zeros": lambda signed: bytes(64),
    "zeros of RSA": lambda signed: bytes(256),
}
ALGORITHMS: list[Any] = [
    *GOOD, "none", "None", "NONE", "nOnE", "hs256", "HS384", "HS512", "RS384", "RS512", "PS256", "ES384",
    "ES512", "ES256K", "Ed25519", "", " HS256", "HS256 ", "HS256\0", ["HS256"], {"HS256": 1}, 1, True,
    None, "A" * 3000,
]  # fmt: skip
HUGE = "x" * 1_000_000


def algorithms() -> Iterator[Case]:
    """Each algorithm in the header with each signature, with and without the name of a key."""
    for algorithm in ALGORITHMS:
        for signer, sign in SIGNERS.items():
            for kid in (None, "rsa"):
                header = {"alg": algorithm} | ({} if kid is None else {"kid": kid})
                is_good = algorithm == signer and isinstance(algorithm, str) and algorithm in GOOD
                is_good &= kid is None or KIDS.get(signer) in (None, kid)
                yield Case(f"{algorithm!r:.20} {signer} {kid}", token(header, claims(), sign), is_good)
    for signer, sign in SIGNERS.items():
        yield Case(f"no alg, {signer}", token({"typ": "JWT"}, claims(), sign), False)


HEADERS: list[tuple[dict[str, Any], bool]] = [
    ({"typ": "JWT"}, True), ({"typ": "jwt"}, True), ({"typ": "at+jwt"}, True), ({"typ": None}, True),
    ({"typ": "application/at+jwt"}, True), ({"typ": "JWE"}, False), ({"typ": "secevent+jwt"}, False),
    ({"typ": 1}, False), ({"cty": "JWT"}, False), ({"kid": None}, True), ({"x5t": "abc"}, True),
    ({"kid": 1}, False), ({"kid": ["rsa"]}, False), ({"kid": "k" * 257}, False),
    ({"jwk": OTHERS.jwks()["keys"][3]}, False), ({"jku": "http://127.0.0.1/keys"}, False),
    ({"x5u": "http://127.0.0.1/cert"}, False), ({"x5c": ["MIIB"]}, False), ({"crit": []}, False),
    ({"crit": ["exp"]}, False), ({"crit": ["b64"], "b64": False}, False), ({"b64": False}, False),
    ({"b64": True}, False), ({"zip": "DEF"}, False), ({"enc": "A128GCM"}, False), ({"epk": {}}, False),
    ({"nonce": "x"}, False), ({"": ""}, False), ({"ALG": "none"}, False), ({"__proto__": {}}, False),
]  # fmt: skip
ODD_KIDS = ["", "../../../dev/null", "' OR 1=1 --", "\0", "rsa\0", "RSA", "oct", "enc", "broken", "é" * 100]

LISTS = ("tasks", "models", "memories")
CLAIMS: list[tuple[dict[str, Any], bool]] = [
    *(({"exp": exp}, True) for exp in (
        NOW, NOW + 1, NOW - 59, NOW - 60, NOW - 60.0, NOW + 0.5, NOW + 10**8, 2**53,
    )),
    *(({"exp": exp}, False) for exp in (
        None, NOW - 61, NOW - 60.5, 0, -1, -NOW, str(NOW + 600), f"{NOW}.0", True, False, [NOW + 600],
        {"at": NOW + 600}, 1e300, 1e308, 2**53 + 1, 2**64, 10**30, "", "never",
    )),
    *(({"nbf": nbf}, True) for nbf in (NOW, NOW + 60, NOW - 10**6, 0, NOW + 59.5)),
    *(({"nbf": nbf}, False) for nbf in (NOW + 61, NOW + 60.5, -1, str(NOW), True, [NOW], 1e300)),
    *(({"iat": iat}, True) for iat in (NOW, 0, NOW - 0.5, NOW + 1000)),
    *(({"iat": iat}, False) for iat in (-1, str(NOW), True, [], {}, 1e300)),
    *(({"sub": sub}, True) for sub in ("bob", "", "é", "a" * 1000, None, "'; DROP TABLE keys; --")),
    *(({"sub": sub}, False) for sub in (1, True, ["bob"], {})),
    *(({kind: names}, True) for kind in LISTS for names in ([], ["a"], ["a", "é"], None)),
    *(({kind: names}, False) for kind in LISTS
      for names in ("a", "", 1, True, False, {"a": 1}, [1], [None], [["a"]], ["a", 1])),
    ({"jti": "x"}, True), ({"jti": 1}, False), ({"scope": "admin", "admin": True, "roles": [1]}, True),
]  # fmt: skip
# Only the issuers with public keys say what these must be.
ISSUED: list[tuple[dict[str, Any], bool]] = [
    ({"iss": None}, False), ({"iss": ""}, False), ({"iss": ISSUER + "/"}, False),
    ({"iss": ISSUER[:-1]}, False),
    ({"iss": ISSUER.upper()}, False), ({"iss": "https://issuer.example.evil"}, False),
    ({"aud": None}, False), ({"aud": []}, False), ({"aud": ""}, False), ({"aud": [AUDIENCE]}, True),
    ({"aud": ["other", AUDIENCE]}, True), ({"aud": ["other"]}, False), ({"aud": AUDIENCE + "s"}, False),
    ({"aud": AUDIENCE[:-1]}, False), ({"aud": f"other {AUDIENCE}"}, False),
]  # fmt: skip
WRONG_TYPES: list[dict[str, Any]] = [
    {"iss": 1}, {"iss": [ISSUER]}, {"iss": True}, {"aud": 1}, {"aud": True}, {"aud": {AUDIENCE: 1}},
    {"aud": [AUDIENCE, 1]}, {"aud": [[AUDIENCE]]},
]  # fmt: skip


def members() -> Iterator[Case]:
    """Each header member and each claim, for each kind of key."""
    for algorithm, sign in GOOD.items():
        plain = {"alg": algorithm}
        for extra, is_good in HEADERS:
            yield Case(f"{algorithm} {extra!r:.40}", token(plain | extra, claims(), sign), is_good)
        for kid in ODD_KIDS:
            is_good = algorithm == "HS256"  # the one secret has no name
            yield Case(f"{algorithm} kid {kid!r:.20}", token(plain | {"kid": kid}, claims(), sign), is_good)
        changes = CLAIMS + [(change, False) for change in WRONG_TYPES]
        changes += [(change, is_good or algorithm == "HS256") for change, is_good in ISSUED]
        for change, is_good in changes:
            yield Case(f"{algorithm} {change!r:.50}", token(plain, claims(**change), sign), is_good)


def payloads() -> Iterator[bytes]:
    """Payloads that are no single, plain JSON object of claims."""
    good = json.dumps(claims()).encode()
    yield from (
        b"",
        b" ",
        b"null",
        b"[]",
        b"1",
        b'"a"',
        b"[" + good + b"]",
        good[:-1],
        good + b"x",
        good + good,
    )
    yield from (good.decode().encode(code) for code in ("utf-16", "utf-16-le", "utf-32"))
    yield from (b"\xef\xbb\xbf" + good, good.replace(b"bob", b"b\xffb"), good.replace(b"bob", b"\\ud800"))
    yield from (good.replace(b"}", b', "%s": 1}' % name) for name in (b"exp", b"iss", b"sub", b"aud"))
    yield good.replace(b"}", b', "exp": %d}' % (NOW + 999))
    yield good.replace(b"{", b'{"tasks": [], ').replace(b"}", b', "tasks": null}')
    yield good.replace(b"}", b', "\\u0065xp": %d}' % (NOW + 999))
    yield good.replace(b"}", b', "x": {"a": 1, "a": 2}}')
    yield from (
        good.replace(b"}", b', "x": %s}' % word)
        for word in (b"NaN", b"Infinity", b"-Infinity", b"01", b"'a'")
    )
    yield good.replace(b"}", b', "x": ' + b"[" * 3000 + b"]" * 3000 + b"}")
    yield good.replace(b"}", b', "x": ' + b"9" * 5000 + b"}")


def structures() -> Iterator[Case]:
    """Texts that are cut, padded, doubled or spelt in a second way."""
    for algorithm, sign in GOOD.items():
        good = token({"alg": algorithm}, claims(), sign)
        head, payload, signature = good.split(".")
        yield Case(f"{algorithm} as it should be", good, True)
        wrong = [
            "", ".", "..", "...", head, f"{head}.{payload}", f"{head}.{payload}.", f"{head}..{signature}",
            f".{payload}.{signature}", f"{good}.", f".{good}", f"{good}.{signature}", f"{good}.a.b", good * 2,
            f"{good}=", f"{good}==", f"{head}=.{payload}.{signature}", f"{head}.{payload}=.{signature}",
            f" {good}", f"{good} ", f"{good}\n", f"{good}\r\n", f"{head}. {payload}.{signature}", f"{good}\0",
            good.replace(".", " "), good.replace(".", ","), good.upper(), good.lower(), f"{good}%3D",
            f"{good}+", f"{good}/", f"Bearer {good}", f'"{good}"', f"{good}é", f"{good}\udc80", good[::-1],
            f"{head}.{payload}.{signature[:-1]}", f"{head}.{payload}.{signature}A",
            f"{head}.{payload}.{signature}AAAA",
            f"{head}.{b64(json.dumps(claims(sub='eve')).encode())}.{signature}",
            token({"alg": algorithm}, good.encode(), sign), token({"alg": algorithm}, claims(x=HUGE), sign),
            token({"alg": algorithm, "kid": HUGE}, claims(), sign), HUGE, f"{HUGE}.{HUGE}.{HUGE}",
            token(b'{"alg": "%s", "alg": "none"}' % algorithm.encode(), claims(), sign),
            token(b'{"alg": "none", "alg": "%s"}' % algorithm.encode(), claims(), sign),
            token(b'\xff\xfe{"alg"}', claims(), sign), token(b"[]", claims(), sign),
            token(b'"HS256"', claims(), sign),
        ]  # fmt: skip
        wrong += [token({"alg": algorithm}, payload, sign) for payload in payloads()]
        wrong += second_spellings(good)
        wrong += [
            good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
            for place in range(0, len(good), max(1, len(good) // 100))
            if good[place] != "."
        ]
        yield from (Case(f"{algorithm} structure {text!r:.60}", text, False) for text in wrong)


def second_spellings(good: str) -> Iterator[str]:
    """The same bytes in base64 whose unused bits are not zero."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    parts = good.split(".")
    for index, part in enumerate(parts):
        unused = {2: 16, 3: 4}.get(len(part) % 4)
        if unused is not None:
            other = letters[letters.index(part[-1]) + 1]
            yield ".".join([*parts[:index], part[:-1] + other, *parts[index + 1 :]])


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """One shared secret, and an issuer for each kind of public key."""
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(KEYS.jwks()))
    signers = [Signer(SharedSecret(SECRET), Expected())]
    for algorithm in ("RS256", "ES256", "EdDSA"):
        config = IssuerConfig(issuer=ISSUER, audience=AUDIENCE, algorithm=algorithm, jwks_file=file)
        signers.append(Signer(IssuerKeys(config), Expected(ISSUER, AUDIENCE)))
    return Keyring(signers=tuple(signers), clock=lambda: NOW)


async def test_exactly_the_good_tokens_are_taken(keyring: Keyring) -> None:
    """No false accept, no false refusal, no other error, and one text for all refusals."""
    cases = [*algorithms(), *members(), *structures()]
    wrong, texts = [], set()
    for case in cases:
        try:
            principal = await keyring.identified(case.text)
            is_taken = not principal.grants.admin
        except Unauthorized as refusal:
            is_taken = False
            texts.add(refusal.message)
        if is_taken is not case.is_good:
            wrong.append(case.name)

    assert wrong == []
    assert texts == {"invalid JWT token"}
    assert len({case.text for case in cases}) >= 1500
    assert sum(case.is_good for case in cases) > 100
