"""Personal data becomes placeholders: e-mail and IP addresses, telephone and card numbers, keys to services.

A number goes only when its form says what it is: an IP address is public, a card's last digit checks (Luhn), a telephone
number begins with "+" or is grouped as North Americans do. Names and postal addresses are left: no pattern tells them.
Source of the order and of public addresses only: FineWeb, arXiv:2406.17557, section 4; Luhn: US patent 2,950,048.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Personal(StrEnum):
    """A kind of personal data; its placeholder is the name in angle brackets."""

    EMAIL = "email"
    IP = "ip"
    PHONE = "phone"
    CARD = "card"
    KEY = "key"


EMAIL = re.compile(r"(?<![\w.+-])[\w+-]+(?:\.[\w+-]+)*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}(?![\w-])")
# Prefixes by which services mark their secrets, and whole private keys.
KEY_PREFIXES = (
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "github_pat_",
    "xoxb-",
    "xoxp-",
    "sk-",
    "sk_live_",
    "AIza",
    "hf_",
    "-----BEGIN",
)
KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[po]_\w{36}\b|\bgithub_pat_\w{22,255}\b|\bxox[bp]-[\w-]{20,255}\b"
    r"|\bsk-[\w-]{32,255}\b|\bsk_live_\w{24,255}\b|\bAIza[\w-]{35}\b|\bhf_[A-Za-z0-9]{34}\b",
    re.DOTALL,
)
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:(?=:)){2,7}:?(?:[0-9A-Fa-f]{1,4})?(?![\w:.])")
# A run of digits and what may part them; `_number` says what it is.
NUMBER = re.compile(r"(?<![\w.,:/+-])(?:\+|\()?\d[\d ().-]{5,30}\d(?![\w/]|[.,:-]\d)")
IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
PHONE = re.compile(r"\+\d[\d ().-]*|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}")
CARD = re.compile(r"[3-6]\d{3}(?:[ -]?\d{2,6}){2,4}")
CARD_DIGITS, PHONE_DIGITS = range(13, 20), range(8, 16)


@dataclass(frozen=True, kw_only=True)
class Redaction:
    """What is taken out."""

    kinds: tuple[Personal, ...] = tuple(Personal)

    def apply(self, text: str) -> tuple[str, Counter[Personal]]:
        """The text with placeholders such as "<email>", and how many of each kind there were."""
        found: Counter[Personal] = Counter()

        def replaced(pattern: re.Pattern[str], kind_of: Callable[[str], Personal | None], text: str) -> str:
            def one(match: re.Match[str]) -> str:
                kind = kind_of(match[0])
                if kind not in self.kinds:
                    return match[0]
                found[kind] += 1
                return f"<{kind}>"

            return pattern.sub(one, text)

        if any(prefix in text for prefix in KEY_PREFIXES):
            text = replaced(KEY, lambda _: Personal.KEY, text)
        if "@" in text:
            text = replaced(EMAIL, lambda _: Personal.EMAIL, text)
        if text.count(":") > 1:
            text = replaced(IPV6, lambda run: Personal.IP if _is_public(run) else None, text)
        return replaced(NUMBER, _number, text), found


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before: `passes_luhn("79927398713") -> True`."""
    doubled = (int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits)))
    return sum(digit - 9 if digit > 9 else digit for digit in doubled) % 10 == 0


def _number(run: str) -> Personal | None:
    """What a run of digits is."""
    if IPV4.fullmatch(run):
        return Personal.IP if _is_public(run) else None
    digits = re.sub(r"\D", "", run)
    if len(digits) in CARD_DIGITS and CARD.fullmatch(run) and passes_luhn(digits):
        return Personal.CARD
    return Personal.PHONE if len(digits) in PHONE_DIGITS and PHONE.fullmatch(run) else None


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
