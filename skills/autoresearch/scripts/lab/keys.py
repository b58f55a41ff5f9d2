"""What must not get into a commit, because git keeps it for good: keys, files that hold them, huge files.

Stricter than `redact`, which hides what only looks like a secret: a refusal stops work, so each shape here is
one that no ordinary code has.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

LIMIT_BYTES = 5_000_000
# Files whose purpose is to hold secrets, whatever stands in them.
NAMES = re.compile(
    r"(?i)^(?:\.env(?:\.(?!example$|sample$|template$)[\w.-]+)?|\.netrc|_netrc|\.pypirc|\.npmrc|\.htpasswd|"
    r"id_(?:rsa|dsa|ecdsa|ed25519)|credentials(?:\.json)?|service[_-]account[\w-]*\.json|"
    r"[\w.-]+\.(?:pem|p12|pfx|keystore|jks|kdbx))$"
)
_LONG = r"(?=[A-Za-z_\-]*\d)[A-Za-z0-9_\-]"  # a digit in it: words with dashes are no keys
SHAPES: dict[str, re.Pattern[str]] = {
    kind: re.compile(pattern)
    for kind, pattern in {
        "a private key": r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----",
        "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255})",
        "a GitLab token": rf"\bglpat-{_LONG}{{16,64}}",
        "a Hugging Face token": r"\bhf_(?=[A-Za-z]{0,40}\d|[A-Za-z]{30})[A-Za-z0-9]{20,64}",
        "an API key": rf"\bsk-{_LONG}{{20,250}}",
        "an AWS key id": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        "a Google key": r"\bAIza[0-9A-Za-z_\-]{35}",
        "a Slack token": r"\bxox[abprs]-[0-9A-Za-z-]{10,250}",
        "a Slack address": r"\bhooks\.slack\.com/(?:services|workflows|triggers)/[\w/]{16,200}",
        "a Discord address": r"\bdiscord(?:app)?\.com/api/webhooks/\d{6,30}/[\w-]{16,200}",
        "a Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,250}",
        "a bot token": r"\b\d{8,12}:AA[\w-]{30,40}",
        "a SendGrid key": r"\bSG\.[\w-]{16,64}\.[\w-]{16,128}",
        "a Replicate token": r"\br8_(?=[A-Za-z]{0,40}\d)[A-Za-z0-9]{30,64}",
        "a Google token": r"\bya29\.[\w-]{20,250}",
        "a Databricks token": r"\bdapi[0-9a-f]{32}\b",
        "a DigitalOcean token": r"\bdo[opr]_v1_[0-9a-f]{64}\b",
        "a key of a model service": r"\b(?:gsk_|xai-|pplx-|tvly-|lin_api_)"
        r"(?=[A-Za-z]{0,40}\d)[A-Za-z0-9]{20,250}",
        "an age key": r"\bAGE-SECRET-KEY-1[0-9A-Z]{20,100}",
        "an Azure key": r"\bAccountKey=[A-Za-z0-9+/]{40,100}={0,2}",
        "a W&B key": r"\bwandb\.login\([^)\n]{0,80}key\s{0,4}=\s{0,4}[\"'][0-9a-f]{40}[\"']",
        "a PyPI token": r"\bpypi-AgE[A-Za-z0-9_\-]{40,250}",
        "an npm token": r"\bnpm_(?=[A-Za-z]{0,40}\d)[A-Za-z0-9]{30,64}",
        "a signed token": r"\beyJ[\w\-]{16,2000}\.eyJ[\w\-]{8,2000}\.[\w\-]{8,2000}",
        "a password in an address": r"\b[a-z][a-z0-9+.\-]{1,20}://[^\s/@:'\"{}$<]{1,100}:[^\s/@'\"{}$<]{3,200}@[\w.-]+",
        "a value named as a secret": (
            r"(?i)\b\w{0,40}(?:api_?key|secret_?key|access_?key|auth_?token|access_?token|password|passwd|secret)"
            r"[\"']?\]?\s{0,4}[:=]\s{0,4}[\"'](?=[^\"'\s]{0,40}\d)(?=[^\"'\s]{0,40}[A-Za-z])[A-Za-z0-9+/=_\-.]{16,200}[\"']"
        ),
    }.items()
}


def unfit(path: str, data: bytes, before: bytes | None) -> str:
    """Say why a file must not be committed, or "": what stood in it `before` is no news."""
    name = PurePosixPath(path).name
    if NAMES.match(name):
        return f"{path} is a file for secrets"
    if len(data) > LIMIT_BYTES and len(data) > len(before or b""):
        return f"{path} has {len(data) / 1e6:.1f} MB; a file of a candidate may have {LIMIT_BYTES / 1e6:.0f}"
    old = set(_found((before or b"").decode("utf-8", "replace")))
    text = data.decode("utf-8", "replace")
    for number, line in enumerate(text.split("\n"), 1):
        for kind, value in _found(line):
            if (kind, value) not in old:
                return f"{path}:{number} holds {kind}"
    return ""


def _found(text: str) -> list[tuple[str, str]]:
    return [(kind, match.group()) for kind, shape in SHAPES.items() for match in shape.finditer(text)]
