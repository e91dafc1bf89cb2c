"""Secrets of every family, made at run time: nothing in this file looks like one by itself."""

import base64
import random
import string
from typing import Final

_ALNUM: Final = string.ascii_letters + string.digits
_WORD: Final = _ALNUM + "_-"
_HEX: Final = string.digits + "abcdef"
_UPPER: Final = string.ascii_uppercase + string.digits


def _made(rng: random.Random, prefix: str, length: int, characters: str = _ALNUM) -> str:
    # A digit at its end, as all but one in a million have one somewhere.
    return prefix + "".join(rng.choices(characters, k=length - 2)) + "x7"


def _web_token(rng: random.Random) -> str:
    parts = [
        base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        for text in ('{"alg":"HS256","typ":"JWT"}', '{"sub":"1234567890","name":"A. N. Other"}')
    ]
    return ".".join([*parts, _made(rng, "", 43, _WORD)])


def secrets(seed: int = 7) -> dict[str, str]:
    """One secret of each family that is recognised wherever it stands, by name."""
    rng = random.Random(seed)

    def made(prefix: str, length: int, characters: str = _ALNUM) -> str:
        return _made(rng, prefix, length, characters)

    return {
        "openai": made("sk" + "-", 48),
        "openai project": made("sk" + "-proj-", 120, _WORD),
        "openai service account": made("sk" + "-svcacct-", 60, _WORD),
        "anthropic": made("sk" + "-ant-" + "api03-", 95, _WORD),
        "openrouter": made("sk" + "-or-v1-", 64, _HEX),
        "litellm virtual key": made("sk" + "-", 22, _WORD),
        "deepseek": made("sk" + "-", 32, _HEX),
        "langfuse": made("sk" + "-lf-", 36, _HEX + "-"),
        "web token": _web_token(rng),
        "aws access key": made("AK" + "IA", 16, _UPPER).upper(),
        "aws temporary key": made("AS" + "IA", 16, _UPPER).upper(),
        "google": made("AI" + "za", 35, _WORD),
        "google access": made("ya" + "29.", 120, _WORD),
        "google client": made("GOC" + "SPX-", 28, _WORD),
        "github classic": made("gh" + "p_", 36),
        "github server": made("gh" + "s_", 36),
        "github fine-grained": made("github" + "_pat_", 82, _ALNUM + "_"),
        "azure openai": made("", 52) + "JQQ" + "J99" + made("", 26),
        "entra": made("", 3) + "8Q" + "~" + made("", 34, _ALNUM + "_.~-"),
        "gitlab": made("gl" + "pat-", 20, _WORD),
        "slack bot": made("xo" + "xb-", 50, _ALNUM + "-"),
        "slack app": made("xa" + "pp-1-", 50, _ALNUM + "-"),
        "hugging face": made("h" + "f_", 34),
        "groq": made("gs" + "k_", 52),
        "xai": made("xa" + "i-", 80),
        "perplexity": made("pp" + "lx-", 48),
        "nvidia": made("nv" + "api-", 64, _WORD),
        "replicate": made("r" + "8_", 37),
        "stripe secret": made("sk" + "_live_", 24),
        "stripe restricted": made("rk" + "_live_", 24),
        "stripe webhook": made("wh" + "sec_", 32),
        "npm": made("np" + "m_", 36),
        "pypi": made("pyp" + "i-AgEIcHlwaS5vcmc", 60, _WORD),
        "sendgrid": made("S" + "G.", 22, _WORD) + "." + made("", 43, _WORD),
        "vault": made("hv" + "s.", 90, _WORD),
        "databricks": made("da" + "pi", 31, _HEX)[:-2] + "a70",
        "tavily": made("tv" + "ly-", 32),
        "langsmith": made("lsv2" + "_pt_", 32, _HEX)[:-2] + "a7",
        "digitalocean": made("do" + "p_v1_", 64, _HEX)[:-2] + "a7",
        "private key": "-----BEGIN RSA PRIV"
        "ATE KEY-----\n"
        + "\n".join(made("MII", 61, _ALNUM + "+/") for _ in range(4))
        + "\n-----END RSA PRIV"
        + "ATE KEY-----",
    }


def remains(secret: str) -> list[bytes]:
    """What must not be found of a secret: any twelve of its characters, but for its beginning."""
    text = secret.replace("-----BEGIN RSA PRIV" + "ATE KEY-----\n", "").partition("\n")[0]
    start = 0 if text.startswith("MII") else min(8, len(text) - 12)
    return [text[at : at + 12].encode() for at in range(start, len(text) - 11, 4)]
