"""Signing: which headers a list of secrets gives, and which lists are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.signing import Signer

#: The example that the libraries of Standard Webhooks test themselves with.
KNOWN_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KNOWN_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
KNOWN_AT_S = 1614265330
KNOWN_BODY = b'{"test": 2432232314}'
KNOWN_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

OTHER_SECRET = "whsec_" + base64.b64encode(b"another key, thirty-two bytes ok").decode()
ID = "01J0000000000000000000000A-3"


def whsec(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def sha256(secret: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def refused(text: str) -> str:
    with pytest.raises(ValueError, match=r"secret|whsec_") as caught:
        Signer.of(text)
    return "".join(traceback.format_exception(caught.value))


def test_the_published_known_answer_is_reproduced():
    assert Signer.of(KNOWN_SECRET).headers(KNOWN_ID, KNOWN_AT_S, KNOWN_BODY) == {
        "webhook-id": KNOWN_ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": KNOWN_SIGNATURE,
        "x-foreman-signature": sha256(KNOWN_SECRET, KNOWN_BODY),
    }


def test_the_body_signature_is_what_any_hmac_tool_computes():
    # printf '{"state":"done"}' | openssl dgst -sha256 -hmac hush
    expected = "sha256=9e6055c460243219d06489f2298bdfe1eeef2d5ecf1c40dfb411fcab0cc1c173"
    assert Signer.of("hush").headers(ID, 1, b'{"state":"done"}')["x-foreman-signature"] == expected


def test_a_plain_secret_gives_no_standard_signature():
    assert list(Signer.of("hush").headers(ID, 7, b"{}")) == ["webhook-id", "webhook-timestamp", "x-foreman-signature"]


def test_without_a_secret_a_delivery_still_has_its_id_and_time():
    assert Signer().headers(ID, 7, b"{}") == {"webhook-id": ID, "webhook-timestamp": "7"}


def test_the_first_secret_of_a_list_signs_the_body():
    headers = Signer.of(f"hush,{KNOWN_SECRET}").headers(ID, 7, b"{}")
    assert headers["x-foreman-signature"] == sha256("hush", b"{}")


def test_each_standard_secret_of_a_list_gives_one_token():
    headers = Signer.of(f"hush , {KNOWN_SECRET} ,{OTHER_SECRET}").headers(ID, 7, b"{}")
    alone = [Signer.of(secret).headers(ID, 7, b"{}")["webhook-signature"] for secret in (KNOWN_SECRET, OTHER_SECRET)]
    assert headers["webhook-signature"].split(" ") == alone
    assert len(set(alone)) == 2


def test_blanks_round_commas_do_not_count():
    assert Signer.of(" one ,\ttwo ").texts == ("one", "two")


def test_padding_of_a_standard_secret_is_optional():
    padded = whsec(bytes(range(25)))
    assert padded.endswith("==")
    assert Signer.of(padded.rstrip("=")).keys == Signer.of(padded).keys == (bytes(range(25)),)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_standard_key_of_24_to_64_bytes_is_taken(size):
    assert Signer.of(whsec(b"k" * size)).keys == (b"k" * size,)


@pytest.mark.parametrize("size", [0, 1, 23, 65, 200])
def test_a_standard_key_of_another_size_is_refused(size):
    assert "base64 of 24 to 64 bytes" in refused(whsec(b"k" * size))


@pytest.mark.parametrize("text", ["", " ", "one,", ",one", "one,,two", "one, ,two"])
def test_an_empty_item_is_refused(text):
    assert "must not be empty" in refused(text)


@pytest.mark.parametrize("odd", ["hu sh", "hush\n", "h\x00sh", "hüsh", "hush\x7f", "hu\ud800sh"])
def test_what_is_not_visible_ascii_is_refused(odd):
    assert "visible ASCII" in refused(f"{odd},second")


@pytest.mark.parametrize("rest", ["*" * 40, "A" * 33, "A" * 40 + "=A", "-_" * 20])
def test_a_standard_secret_that_is_not_base64_is_refused(rest):
    assert "base64" in refused("whsec_" + rest)


@given(st.text(st.sampled_from("sEcReT42=,- \n\xfc"), min_size=1))
def test_no_fault_quotes_the_secret(text):
    secret = f"whsec_{text}~unusable"
    assert "~unusable" not in refused(secret)


def test_a_signer_does_not_show_its_secrets():
    assert "hush" not in repr(Signer.of("hush,hush2"))
    assert KNOWN_SECRET[6:] not in repr(Signer.of(KNOWN_SECRET))
