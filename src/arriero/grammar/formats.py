"""The values of `format` as regular expressions: an enforced format, not a mere remark.

A few are narrower than their RFC (what is written conforms, but rare forms are never written):
leap seconds only in UTC, no punycode in host names, regular expressions with two levels of groups at most.
"""

from __future__ import annotations

LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
MONTH_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
DATE = f"(?:[0-9]{{4}}-{MONTH_DAY}|{LEAP_YEAR}-02-29)"
HOUR_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
FRACTION = r"(?:\.[0-9]+)?"
TIME = (
    f"(?:{HOUR_MINUTE}:[0-5][0-9]{FRACTION}(?:[zZ]|[+-]{HOUR_MINUTE})|23:59:60{FRACTION}(?:[zZ]|[+-]00:00))"
)

ALNUM = "[A-Za-z0-9]"
INNER = "[A-Za-z0-9-]"
LABEL = f"{ALNUM}(?:{INNER}{{0,2}}{ALNUM}|{INNER}(?:{ALNUM}{INNER}|-{ALNUM}){INNER}{{0,58}}{ALNUM})?"
"""No hyphens as third and fourth character: those are reserved, and punycode is not checked here."""
HOSTNAME = rf"{LABEL}(?:\.{LABEL})*"

OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4 = rf"{OCTET}(?:\.{OCTET}){{3}}"
H16 = "[0-9A-Fa-f]{1,4}"
LS32 = f"(?:{H16}:{H16}|{IPV4})"
IPV6 = (
    f"(?:(?:{H16}:){{6}}{LS32}|::(?:{H16}:){{5}}{LS32}|(?:{H16})?::(?:{H16}:){{4}}{LS32}"
    + "".join(
        f"|(?:(?:{H16}:){{0,{6 - after}}}{H16})?::{tail}"
        for after, tail in (
            (5, f"(?:{H16}:){{3}}{LS32}"),
            (4, f"(?:{H16}:){{2}}{LS32}"),
            (3, f"{H16}:{LS32}"),
            (2, LS32),
            (1, H16),
            (0, ""),
        )
    )
    + ")"
)

ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
QUOTED_LOCAL = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
DOMAIN = rf"{ALNUM}(?:{INNER}*{ALNUM})?(?:\.{ALNUM}(?:{INNER}*{ALNUM})?)*"
EMAIL = rf"(?:{ATOM}(?:\.{ATOM})*|{QUOTED_LOCAL})@(?:{DOMAIN}|\[(?:{IPV4}|IPv6:{IPV6})\])"

PERCENT = "%[0-9A-Fa-f]{2}"
PCHAR = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|{PERCENT})"
PCHAR_NO_COLON = rf"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|{PERCENT})"
USERINFO = rf"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|{PERCENT})*"
REG_NAME = rf"(?:[A-Za-z0-9._~!$&'()*+,;=-]|{PERCENT})*"
IP_FUTURE = r"[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+"
AUTHORITY = rf"(?:{USERINFO}@)?(?:\[(?:{IPV6}|{IP_FUTURE})\]|{REG_NAME})(?::[0-9]*)?"
QUERY_FRAGMENT = rf"(?:\?(?:{PCHAR}|[/?])*)?(?:#(?:{PCHAR}|[/?])*)?"
ROOTED = f"(?://{AUTHORITY}(?:/{PCHAR}*)*|/(?:{PCHAR}+(?:/{PCHAR}*)*)?)"
URI = f"[A-Za-z][A-Za-z0-9+.-]*:(?:{ROOTED}|{PCHAR}+(?:/{PCHAR}*)*)?{QUERY_FRAGMENT}"
RELATIVE = f"(?:{ROOTED}|{PCHAR_NO_COLON}+(?:/{PCHAR}*)*)?{QUERY_FRAGMENT}"

POINTER = "(?:/(?:[^~/]|~[01])*)*"
DURATION_TIME = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
DURATION_DATE = "(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"
HEX_4 = "[0-9A-Fa-f]{4}"

SPECIAL = r"[\\^$.*+?()\[\]{}|/-]"
ESCAPE = rf"\\(?:[dDwWsStnrfv]|{SPECIAL})"
SET = rf"\[\^?(?:[A-Za-z0-9 !#%&'*+.,:;<=>@_`~]|{ESCAPE})+\]"
REPEAT = r"(?:(?:[*+?]|\{[0-9]{1,3},?\})\??)?"
ATOM_OF_REGEX = rf"(?:[^\\^$.*+?()\[\]{{}}|/\n\r]|\.|{ESCAPE}|{SET})"


def _alternatives(atom: str) -> str:
    return rf"\^?(?:{atom}{REPEAT})*\$?(?:\|\^?(?:{atom}{REPEAT})*\$?)*"


INNER_GROUP = rf"\((?:\?:)?{_alternatives(ATOM_OF_REGEX)}\)"
GROUP = rf"\((?:\?:)?{_alternatives(f'(?:{ATOM_OF_REGEX}|{INNER_GROUP})')}\)"
REGEX = _alternatives(f"(?:{ATOM_OF_REGEX}|{GROUP})")

_EXPRESSIONS = {
    "date": DATE,
    "time": TIME,
    "date-time": f"{DATE}[tT]{TIME}",
    "duration": f"P(?:{DURATION_DATE}(?:{DURATION_TIME})?|{DURATION_TIME}|[0-9]+W)",
    "email": EMAIL,
    "hostname": HOSTNAME,
    "ipv4": IPV4,
    "ipv6": IPV6,
    "uuid": f"{HEX_4}{HEX_4}-{HEX_4}-{HEX_4}-{HEX_4}-{HEX_4}{HEX_4}{HEX_4}",
    "uri": URI,
    "uri-reference": f"(?:{URI}|{RELATIVE})",
    "json-pointer": POINTER,
    "regex": REGEX,
    "relative-json-pointer": f"(?:0|[1-9][0-9]*)(?:#|{POINTER})",
}
PATTERNS = {name: f"^(?:{expression})$" for name, expression in _EXPRESSIONS.items()}
"""Every format that is enforced, in llguidance's syntax."""

MAX_LENGTHS = {"hostname": 253}

REFUSED = frozenset({"idn-email", "idn-hostname", "iri", "iri-reference", "uri-template"})
"""Formats that JSON Schema defines and we do not enforce. Any other name is a remark, as it says."""

SIMILAR = {"datetime": "date-time", "e-mail": "email", "uuid4": "uuid"}
"""Names that are surely a slip, and what was meant."""


def is_remark(name: object) -> bool:
    """Return whether a format is unknown to JSON Schema, and so asks for nothing."""
    return isinstance(name, str) and name not in PATTERNS and name not in REFUSED
