"""Settings: what is read, what is refused, and that no secret gets out."""

from __future__ import annotations

import math
import traceback
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foreman.config.help import settings_help
from foreman.config.kinds import Address
from foreman.config.settings import SETTINGS, Settings
from foreman.config.unknown import unknown_variables
from foreman.errors import ConfigError

SECRETS = [row.variable for row in SETTINGS if row.secret]


def load(**variables: str) -> Settings:
    return Settings.load({f"FOREMAN_{name}": value for name, value in variables.items()})


def fault(**variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**variables)
    return str(caught.value)


def test_an_empty_environment_gives_the_documented_defaults():
    settings = Settings.load({})
    assert settings.addr == Address("", 8080)
    assert settings.ollama_url == "http://127.0.0.1:11434"
    assert (settings.token, settings.ollama_token, settings.embed_model) == (None, None, None)
    assert settings.db_path == Path("foreman.db")
    assert (settings.poll_interval_s, settings.job_ttl_s, settings.max_wait_s) == (30, 86_400, 600)
    assert (settings.max_wait_interactive_s, settings.keepalive_after_s, settings.drain_timeout_s) == (15, 120, 30)
    assert (settings.max_attempts, settings.parallel, settings.max_queue, settings.embed_concurrency) == (
        3,
        1,
        100_000,
        8,
    )
    assert (settings.max_body_bytes, settings.inline_limit_bytes) == (64 << 20, 256 << 10)
    assert (settings.webhook_secret, str(settings.webhook_networks)) == (None, "lan")
    assert (settings.webhook_concurrency, settings.webhook_timeout_s) == (32, 10)
    assert (settings.swap_share, settings.management, settings.keep_alive) == (0.1, False, -1)
    assert (settings.log_level, settings.log_format, settings.public_url) == ("info", "text", None)


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.variable)
def test_a_default_written_out_means_the_same_as_no_value(row):
    assert Settings.load({row.variable: row.default}) == Settings.load({})


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.variable)
def test_an_attribute_is_named_after_its_variable_and_unit(row):
    name = row.variable.removeprefix("FOREMAN_").lower()
    assert row.attribute == (f"{name}_{row.unit}" if row.unit else name)


def test_settings_cannot_be_changed_once_read():
    with pytest.raises(ValidationError):
        load().max_attempts = 9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("0", 0),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1m0.25s", 60.25),
        ("+5s", 5),
    ],
)
def test_durations_are_read_as_go_reads_them(text, seconds):
    assert load(MAX_WAIT=text).max_wait_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "30",
        "soon",
        "1d",
        "2w",
        "1h 30m",
        "1h,30m",
        "s",
        "1..5s",
        "-5s",
        "9999999999h",
        "9999999999999999h",
        "1e3s",
        "infs",
        "-",
        "٣s",
    ],
)
def test_what_go_would_not_take_as_a_duration_is_refused(text):
    assert "allowed is a duration such as 30s, 1h30m or 500ms, not negative" in fault(MAX_WAIT=text)


@pytest.mark.parametrize(("text", "hours"), [("7d", 168), ("1w", 168), ("30d", 720), ("9999w", 1_679_832)])
def test_for_days_and_weeks_the_hours_are_named_that_are_meant(text, hours):
    assert f"Go's durations have no days or weeks: write {hours}h" in fault(JOB_TTL=text)
    assert load(JOB_TTL=f"{hours}h").job_ttl_s == hours * 3_600


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(hours, minutes, seconds, milliseconds):
    expected = hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    given_text = f"{hours}h{minutes}m{seconds}s{milliseconds}ms"
    assert math.isclose(load(MAX_WAIT=given_text).max_wait_s, expected, abs_tol=1e-6)


@pytest.mark.parametrize("variable", ["POLL_INTERVAL", "JOB_TTL", "CONNECT_TIMEOUT"])
def test_a_zero_that_would_make_no_sense_is_refused(variable):
    assert ", at least " in fault(**{variable: "0"})


@pytest.mark.parametrize(
    ("text", "size"), [("64MiB", 64 << 20), ("256KiB", 256 << 10), ("4096", 4096), ("2 mib", 2 << 20), ("4096B", 4096)]
)
def test_sizes_are_read_in_binary_units_or_bytes(text, size):
    assert load(MAX_BODY=text).max_body_bytes == size


@pytest.mark.parametrize("text", ["1GB", "1.5MiB", "-1", "MiB", "64M", "1023", "513MiB", "١٢٣٤"])
def test_other_sizes_are_refused_with_what_is_allowed(text):
    assert "from 1KiB to 512MiB" in fault(MAX_BODY=text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":8080", "", 8080),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:8080", "::1", 8080),
        ("gpu-box.lan:80", "gpu-box.lan", 80),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_addresses_are_read_and_written_back_alike(text, host, port):
    address = load(ADDR=text).addr
    assert (address, str(address)) == (Address(host, port), text)


@pytest.mark.parametrize(
    "text", ["8080", "::1:8080", "host:", "host:http", "host:65536", "[x]:1", "a b:1", "host:-1", ":٣"]
)
def test_other_addresses_are_refused_with_what_is_allowed(text):
    assert "allowed is :port (every interface), host:port or [IPv6]:port" in fault(ADDR=text)


def test_an_empty_host_binds_every_interface_preferring_both_families():
    assert Address("", 8080).bind_hosts == ("::", "0.0.0.0")
    assert Address("127.0.0.1", 8080).bind_hosts == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://gpu:11434", "http://gpu:11434"),
        ("https://proxy.example/ollama/", "https://proxy.example/ollama"),
        ("http://[::1]:11434", "http://[::1]:11434"),
    ],
)
def test_a_url_keeps_its_path_as_a_prefix(text, url):
    assert load(OLLAMA_URL=text).ollama_url == url


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:11434", "ftp://gpu", "http://", "http://gpu:0", "http://gpu:99999", "http://gpu:", "http://gpu?x=1",
     "http://gpu/#x", "http://a b", "http://[::1", "http://gpu:port"],
)  # fmt: skip
def test_other_urls_are_refused_with_what_is_allowed(text):
    assert "allowed is an http:// or https:// address" in fault(OLLAMA_URL=text)


@pytest.mark.parametrize(
    "text", ["http://me:pa55@gpu", "http://me:pa/55@gpu", "me:pa55@gpu:11434", "http://gpu?key=pa55"]
)
@pytest.mark.parametrize("variable", ["OLLAMA_URL", "PUBLIC_URL", "ADDR", "POLL_INTERVAL"])
def test_a_password_in_an_address_is_refused_and_not_repeated(variable, text):
    message = fault(**{variable: text})
    assert "pa55" not in message
    assert "pa/55" not in message


def test_a_url_with_a_user_says_where_the_token_goes():
    assert "FOREMAN_OLLAMA_TOKEN" in fault(OLLAMA_URL="http://me:pa55@gpu")


@pytest.mark.parametrize("text", ["a b", "x\r\nEvil: 1", "http://gpu", "gpu:port"])
def test_what_is_no_host_is_refused_as_host_header(text):
    assert "allowed is host or host:port" in fault(OLLAMA_HOST_HEADER=text)


@pytest.mark.parametrize(
    ("text", "json"),
    [("-1", b"-1"), ("0", b"0"), ("300", b"300"), ("15m", b'"15m"'), ("-1m", b'"-1m"'), ("1h", b'"1h"')],
)
def test_keep_alive_is_a_json_number_when_it_is_a_bare_integer(text, json):
    assert orjson.dumps(load(KEEP_ALIVE=text).keep_alive) == json


@pytest.mark.parametrize("text", ["forever", "1.5", "1d", "99999999999999"])
def test_a_keep_alive_that_ollama_would_not_take_is_refused(text):
    assert "allowed is -1 (for ever)" in fault(KEEP_ALIVE=text)


@pytest.mark.parametrize("text", [":memory:", "file:x?mode=memory", "data/"])
def test_a_database_that_is_no_file_is_refused(text):
    assert "FOREMAN_DB_PATH=" in fault(DB_PATH=text)


def test_a_tilde_in_the_database_path_is_the_home_folder():
    assert load(DB_PATH="~/foreman.db").db_path == Path.home() / "foreman.db"


@pytest.mark.parametrize("text", ["nan", "inf", "1.01", "-0.1", "some"])
def test_a_share_outside_zero_to_one_is_refused(text):
    assert "a number, from 0 to 1" in fault(SWAP_SHARE=text)


STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_webhook_secrets_are_a_list_of_which_each_is_kept_out_of_the_log():
    settings = load(WEBHOOK_SECRET=f"{STANDARD}, old-one")
    assert settings.webhook_secret.get_secret_value() == f"{STANDARD}, old-one"
    assert set(settings.secrets) == {f"{STANDARD}, old-one", STANDARD, "old-one"}


@pytest.mark.parametrize("text", ["hunter2,,hunter3", "hunter2,", "whsec_hunter2", f"{STANDARD},whsec_"])
def test_a_webhook_secret_that_cannot_sign_is_refused_without_being_shown(text):
    message = fault(WEBHOOK_SECRET=text)
    assert message.count("FOREMAN_WEBHOOK_SECRET=***: ") == 1
    assert "hunter" not in message
    assert STANDARD not in message


@pytest.mark.parametrize("text", ["lan", "PUBLIC", "10.0.0.0/8, fd00::/8", "public,192.168.1.7"])
def test_networks_are_read_and_written_back_alike(text):
    assert str(load(WEBHOOK_NETWORKS=text).webhook_networks) == text


@pytest.mark.parametrize("text", ["wan", "10.1.2.3/8", "lan,", "gpu-box"])
def test_other_networks_are_refused_with_what_is_allowed(text):
    assert "allowed is lan, public, or networks such as 10.0.0.0/8" in fault(WEBHOOK_NETWORKS=text)


@pytest.mark.parametrize(
    ("variable", "text"),
    [("CONCURRENCY", "0"), ("CONCURRENCY", "1025"), ("TIMEOUT", "99ms"), ("TIMEOUT", "61s"), ("TIMEOUT", "0")],
)
def test_webhook_limits_outside_their_bounds_are_refused(variable, text):
    bounds = {"CONCURRENCY": "from 1 to 1024", "TIMEOUT": "from 100ms to 1m"}
    assert bounds[variable] in fault(**{f"WEBHOOK_{variable}": text})


def test_words_are_taken_in_any_case():
    settings = load(LOG_LEVEL="WARNING", LOG_FORMAT="Json", MANAGEMENT="ON")
    assert (settings.log_level, settings.log_format, settings.management) == ("warning", "json", True)


def test_blanks_around_a_value_are_dropped():
    assert load(MAX_ATTEMPTS=" 5\n", TOKEN="abc\n").secrets == ("abc",)


def test_every_fault_is_reported_at_once_with_its_variable_and_value():
    message = fault(PARALLEL="0", LOG_LEVEL="loud", EMBED_MODEL="two words", MANAGEMENT="maybe", ADDR="8080")
    assert message.startswith("5 settings are wrong:")
    assert "FOREMAN_PARALLEL='0': allowed is a whole number, from 1 to 1024" in message
    assert "FOREMAN_LOG_LEVEL='loud': allowed is debug or info or warning or error" in message
    assert "FOREMAN_EMBED_MODEL='two words': not a model's name; allowed is" in message
    assert "FOREMAN_MANAGEMENT='maybe': allowed is on or off" in message
    assert "FOREMAN_ADDR='8080': the port needs a colon in front; allowed is" in message


def test_a_long_value_is_cut_and_control_characters_are_escaped_in_a_fault():
    message = fault(POLL_INTERVAL="\x1b[31m" + "x" * 5000)
    assert "\x1b" not in message
    assert len(message) < 400


@pytest.mark.parametrize("variable", SECRETS)
@pytest.mark.parametrize("value", ["hunter2 hunter2", "hunter2\x00", "hünter2"])
def test_a_refused_secret_is_in_no_trace_of_the_error(variable, value):
    with pytest.raises(ConfigError) as caught:
        Settings.load({variable: value, "FOREMAN_PARALLEL": "0"})
    shown = "".join(traceback.format_exception(caught.value, chain=True)) + repr(caught.value)
    assert f"{variable}=***" in shown
    assert "nter2" not in shown
    assert caught.value.__context__ is None


@pytest.mark.parametrize("variable", SECRETS)
def test_an_accepted_secret_is_hidden_but_in_the_list_for_the_log(variable):
    settings = Settings.load({variable: "hunter2"})
    shown = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    assert not any("hunter2" in text for text in shown)
    assert settings.secrets == ("hunter2",)


@pytest.mark.parametrize("variable", SECRETS)
def test_a_secret_of_blanks_alone_does_not_count_as_unset(variable):
    assert f"{variable}=***" in fault(**{variable.removeprefix("FOREMAN_"): "  "})


def test_a_misspelt_variable_is_named_with_the_nearest_but_not_its_value():
    found = unknown_variables({"FOREMAN_TOKNE": "hunter2", "FOREMAN_ADDR": ":1", "PATH": "/bin", "FOREMAN_QQQ": "1"})
    assert [str(unknown) for unknown in found] == [
        "FOREMAN_QQQ is not a setting of foreman",
        "FOREMAN_TOKNE is not a setting of foreman; did you mean FOREMAN_TOKEN?",
    ]


def test_a_variable_that_others_own_is_not_warned_of():
    assert unknown_variables({"FOREMAN_EMBEDDED_GGUF": "x"}) == ()


def test_an_unknown_variable_does_not_stop_the_start():
    assert load(NO_SUCH_THING="1") == Settings.load({})


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_help_shows_every_setting_within_its_width(width):
    lines = settings_help(width).splitlines()
    words = " ".join(settings_help(width).split())
    assert all(len(line) <= width for line in lines)
    assert all(sum(line.split()[:1] == [row.variable] for line in lines) == 1 for row in SETTINGS)
    assert all(f"{row.description} [default {row.default or 'empty'}; {row.allowed}]" in words for row in SETTINGS)
