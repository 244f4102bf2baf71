"""Verifying a webhook: what is foreman's is taken, what was changed, is too old or is malformed is not."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from foreman.client import SignatureInvalid, verify_signature
from foreman.signing import Signer

KNOWN_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KNOWN_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
KNOWN_AT_S = 1614265330
KNOWN_BODY = b'{"test": 2432232314}'
KNOWN_HEADERS = {
    "webhook-id": KNOWN_ID,
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}

NEW_SECRET = "whsec_" + base64.b64encode(b"the next key, of thirty-two byte").decode()
PLAIN = "hush"
ID = "01J0000000000000000000000A-3"
AT_S = 1_700_000_000
BODY = '{"job_id":"01J","state":"done","result":"grüß dich"}'.encode()


def signed(secret: str, body: bytes = BODY, message_id: str = ID, at_s: int = AT_S) -> dict[str, str]:
    return Signer.of(secret).headers(message_id, at_s, body)


def verify(headers, secret, body=BODY, now_s=float(AT_S), **options):
    verify_signature(body, headers, secret, now_s=now_s, **options)


def fault(headers, secret, body=BODY, now_s=float(AT_S), **options) -> str:
    with pytest.raises(SignatureInvalid) as caught:
        verify(headers, secret, body, now_s, **options)
    return str(caught.value)


def flipped(data: bytes, place: int) -> bytes:
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_the_published_known_answer_verifies():
    verify(KNOWN_HEADERS, KNOWN_SECRET, KNOWN_BODY, now_s=KNOWN_AT_S)


@pytest.mark.parametrize("secret", [PLAIN, KNOWN_SECRET, f"{PLAIN},{KNOWN_SECRET},{NEW_SECRET}"])
def test_what_foreman_signs_verifies(secret):
    verify(signed(secret), secret)


def test_the_official_package_verifies_what_foreman_signs():
    headers = signed(f"{PLAIN},{KNOWN_SECRET},{NEW_SECRET}", at_s=int(time.time()))
    for secret in (KNOWN_SECRET, NEW_SECRET):
        assert Webhook(secret).verify(BODY, headers)["state"] == "done"
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(BODY.replace(b"done", b"gone"), headers)


def test_foreman_verifies_what_the_official_package_signs():
    signature = Webhook(KNOWN_SECRET).sign(ID, datetime.fromtimestamp(AT_S, UTC), BODY.decode())
    headers = {"Webhook-Id": ID, "Webhook-Timestamp": str(AT_S), "Webhook-Signature": signature}
    verify(headers, KNOWN_SECRET)


@pytest.mark.parametrize("secret", [KNOWN_SECRET, NEW_SECRET, f"{NEW_SECRET},{KNOWN_SECRET}"])
def test_two_secrets_verify_with_either(secret):
    verify(signed(f"{KNOWN_SECRET},{NEW_SECRET}"), secret)


@pytest.mark.parametrize("signer", [PLAIN, "older", KNOWN_SECRET, NEW_SECRET])
def test_a_receiver_with_a_list_takes_any_of_it(signer):
    verify(signed(signer), f"{PLAIN},{KNOWN_SECRET},older,{NEW_SECRET}")


@given(st.integers(min_value=0, max_value=len(BODY) - 1))
def test_a_changed_byte_of_the_body_is_rejected(place):
    for secret in (KNOWN_SECRET, PLAIN):
        assert "does not fit" in fault(signed(secret), secret, flipped(BODY, place))


@given(st.integers(min_value=0, max_value=len(ID) - 1))
def test_a_changed_byte_of_the_id_is_rejected(place):
    changed = flipped(ID.encode(), place).decode()
    assert "does not fit" in fault(signed(KNOWN_SECRET) | {"webhook-id": changed}, KNOWN_SECRET)


@pytest.mark.parametrize("by_s", [-1, 1, 60])
def test_a_changed_time_is_rejected(by_s):
    assert "does not fit" in fault(signed(KNOWN_SECRET) | {"webhook-timestamp": str(AT_S + by_s)}, KNOWN_SECRET)


@pytest.mark.parametrize("secret", [NEW_SECRET, "other", PLAIN + "h", f"other,{NEW_SECRET}"])
def test_another_secret_is_rejected(secret):
    fault(signed(f"{PLAIN},{KNOWN_SECRET}"), secret)


@pytest.mark.parametrize(("off_s", "word"), [(301, "301 s old"), (-301, "301 s ahead"), (86_400 * 365, "old")])
def test_a_time_beyond_the_tolerance_is_rejected_in_both_directions(off_s, word):
    assert word in fault(signed(KNOWN_SECRET), KNOWN_SECRET, now_s=AT_S + off_s)


@pytest.mark.parametrize("off_s", [300, -300])
def test_a_time_within_the_tolerance_is_taken(off_s):
    verify(signed(KNOWN_SECRET), KNOWN_SECRET, now_s=AT_S + off_s)


def test_the_tolerance_can_be_chosen():
    verify(signed(KNOWN_SECRET), KNOWN_SECRET, now_s=AT_S + 3_600, tolerance_s=3_600)
    assert "more than 5 s" in fault(signed(KNOWN_SECRET), KNOWN_SECRET, now_s=AT_S + 6, tolerance_s=5)


def test_the_time_is_now_unless_said_otherwise():
    verify_signature(BODY, signed(KNOWN_SECRET, at_s=int(time.time())), KNOWN_SECRET)
    with pytest.raises(SignatureInvalid):
        verify_signature(BODY, signed(KNOWN_SECRET), KNOWN_SECRET)


def test_a_plain_secret_knows_no_time():
    verify(signed(PLAIN), PLAIN, now_s=AT_S + 1e9)


def test_the_body_signature_alone_does_not_satisfy_a_standard_secret():
    headers = signed(KNOWN_SECRET)
    del headers["webhook-signature"]
    assert fault(headers, KNOWN_SECRET) == "there is no webhook-signature"


def test_an_old_delivery_is_not_saved_by_its_body_signature():
    headers = signed(f"{KNOWN_SECRET},{PLAIN}")
    assert "old" in fault(headers, f"{KNOWN_SECRET},{PLAIN}", now_s=AT_S + 400)


def test_a_list_of_both_kinds_names_both_faults():
    assert fault({}, f"{PLAIN},{KNOWN_SECRET}") == "there is no webhook-id; there is no x-foreman-signature"


@pytest.mark.parametrize("change", [str.upper, str.title, str.swapcase])
def test_names_of_headers_are_compared_without_regard_to_case(change):
    for secret in (PLAIN, KNOWN_SECRET):
        verify({change(name): value for name, value in signed(secret).items()}, secret)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_standard_header_is_needed_and_once(name):
    headers = signed(KNOWN_SECRET)
    assert fault(headers | {name.title(): headers[name]}, KNOWN_SECRET) == f"{name} came more than once"
    del headers[name]
    assert fault(headers, KNOWN_SECRET) == f"there is no {name}"


def test_bytes_cannot_be_moved_between_id_and_body():
    # Signed: id `a`, time AT_S, body `1700000000.{}`; the same bytes are id `a.1700000000`, time AT_S, body `{}`.
    headers = signed(KNOWN_SECRET, f"{AT_S}.{{}}".encode(), "a")
    verify(headers, KNOWN_SECRET, f"{AT_S}.{{}}".encode())
    assert "point" in fault(headers | {"webhook-id": f"a.{AT_S}"}, KNOWN_SECRET, b"{}")


@pytest.mark.parametrize("text", ["", "soon", "1.7e9", "1700000000.0", "-1700000000", "+1700000000", " 1700000000",
                                  "1_700_000_000", "٣٣٣", "9" * 5_000, "nan"])  # fmt: skip
def test_a_time_that_is_no_integer_is_invalid(text):
    fault(signed(KNOWN_SECRET) | {"webhook-timestamp": text}, KNOWN_SECRET)


@pytest.mark.parametrize("odd", ["v1", "", ",", "v1,", "v1,***", "v1,Zm9v", "v2,abc", "nonsense", "v1,a,b", "\tv1,x"])
def test_odd_tokens_neither_verify_nor_stand_in_the_way_of_a_good_one(odd):
    good = signed(KNOWN_SECRET)
    assert "does not fit" in fault(good | {"webhook-signature": odd}, KNOWN_SECRET)
    verify(good | {"webhook-signature": f"{odd} {good['webhook-signature']}"}, KNOWN_SECRET)


def test_the_signature_of_another_version_does_not_count():
    headers = signed(KNOWN_SECRET)
    fault(headers | {"webhook-signature": headers["webhook-signature"].replace("v1,", "v1a,")}, KNOWN_SECRET)


TEXT = st.text(st.characters(), max_size=40) | st.sampled_from(list(signed(f"{KNOWN_SECRET}").values()))
NAMES = st.sampled_from(["webhook-id", "Webhook-Timestamp", "webhook-signature", "X-Foreman-Signature", "webhook-ID"])


@given(st.binary(max_size=50), st.dictionaries(NAMES | st.text(max_size=10), TEXT))
@example(b"{}", signed(KNOWN_SECRET) | {"webhook-id": "\udc80"})
@example(b"{}", signed(PLAIN) | {"x-foreman-signature": "sha256=é"})
def test_whatever_the_headers_are_the_answer_is_one_error(body, headers):
    for secret in (PLAIN, KNOWN_SECRET, f"{PLAIN},{KNOWN_SECRET}"):
        with pytest.raises(SignatureInvalid, match=r"."):
            verify_signature(body, headers, secret, now_s=AT_S)


@pytest.mark.parametrize("secret", ["", "whsec_short", "a,,b", "blank blank"])
def test_an_unusable_secret_is_the_programmers_error_not_the_senders(secret):
    with pytest.raises(ValueError, match=r"secret|whsec_") as caught:
        verify(signed(PLAIN), secret)
    assert not isinstance(caught.value, SignatureInvalid)
