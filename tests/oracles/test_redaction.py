"""No part of a key stays in a message, however an endpoint writes it."""

import base64
import json
from urllib.parse import quote

import pytest

from whorl.oracles.redaction import redacted

KEY = "sk-Ab3dEf9h+Jk/mNop=42"


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        KEY[:9],
        KEY[-7:],
        KEY[4:12] + "...",
        KEY.upper(),
        KEY.replace("-", " ").replace("+", "\n"),
        " ".join(KEY),
        "".join(f"\\u{ord(letter):04x}" for letter in KEY),
        "".join(f"\\x{ord(letter):02X}" for letter in KEY),
        "".join(f"%{ord(letter):02x}" for letter in KEY),
        "".join(f"%25{ord(letter):02x}" for letter in KEY),
        "".join(f"&#{ord(letter)};" for letter in KEY),
        "".join(f"&#x{ord(letter):x};" for letter in KEY),
        json.dumps(f"Bearer {KEY}"),
        quote(KEY, safe=""),
        *(base64.b64encode(("Bearer: "[:skip] + KEY).encode()).decode() for skip in range(5)),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
        base64.b64encode(KEY.encode()).decode()[3:],
        KEY.encode().hex(),
        "0" + KEY.encode().hex(),
    ],
)
def test_a_key_is_masked_in_every_spelling(echo: str) -> None:
    text = redacted(f"answers 403: your key {echo} is not known here", KEY)
    assert text.startswith("answers 403: your key")
    assert text.endswith("is not known here")
    assert "***" in text
    letters = "".join(letter for letter in KEY if letter.isalnum())
    kept = "".join(letter for letter in text if letter.isalnum()).lower()
    assert not any(letters[start : start + 6].lower() in kept for start in range(len(letters) - 5))
    assert echo not in text


def test_other_words_stay() -> None:
    text = "answers 500: %7B &#65; \\u0041 c2VjcmV0IGlzIG5vdCBoZXJl 0123456789abcdef at https://host/v2"
    assert redacted(text, KEY) == text
    assert redacted(text, "") == text
    assert redacted("a b-c d", "b-c") == "a *** d"
