"""Model names and load keys: when two requests mean one load of one model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.target.names import LONGEST_VALUE, RELOADING_OPTIONS, canonical, identity_of, load_key

VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers(), max_size=3))


@pytest.mark.parametrize(
    "name",
    [
        "llama3",
        "llama3:latest",
        "LLaMA3:Latest",
        " llama3 ",
        "library/llama3",
        "registry.ollama.ai/library/llama3:latest",
        "https://registry.ollama.ai/library/llama3",
    ],
)
def test_spellings_of_one_model_are_one_name(name):
    assert canonical(name) == "llama3:latest"


@pytest.mark.parametrize(
    ("name", "canonical_name"),
    [
        ("llama3:8b", "llama3:8b"),
        ("someone/llama3", "someone/llama3:latest"),
        ("hf.co/someone/llama3:Q4", "hf.co/someone/llama3:q4"),
        ("localhost:5000/someone/llama3", "localhost:5000/someone/llama3:latest"),
    ],
)
def test_what_tells_models_apart_is_kept(name, canonical_name):
    assert canonical(name) == canonical_name


@given(st.from_regex(r"([A-Za-z0-9_-]{1,8}/)?[A-Za-z0-9_.-]{1,12}(:[A-Za-z0-9_.-]{1,8})?", fullmatch=True))
def test_canonical_name_of_a_canonical_name_is_itself(name):
    assert canonical(canonical(name)) == canonical(name)


@pytest.mark.parametrize("option", RELOADING_OPTIONS)
def test_option_that_reloads_the_model_is_part_of_the_key(option):
    assert load_key("a", {option: 1}) != load_key("a", {}) != load_key("b", {})
    assert load_key("a", {option: 1}) != load_key("a", {option: 2})


def test_option_that_does_not_reload_is_no_part_of_the_key():
    assert load_key("a", {"temperature": 0.1, "seed": 7, "num_ctx": None}) == load_key("a", {})


def test_order_of_options_and_the_form_of_a_number_do_not_count():
    assert load_key("a", {"num_ctx": 4096, "num_gpu": 1}) == load_key("a", {"num_gpu": 1.0, "num_ctx": 4096.0})


@given(st.dictionaries(st.sampled_from(RELOADING_OPTIONS), VALUES))
def test_key_of_any_options_is_short_one_line_text_that_begins_with_the_model(options):
    key = load_key("sha256:ab", options)
    assert identity_of(key) == "sha256:ab"
    assert len(key.split(" ")) == 1 + sum(value is not None for value in options.values())
    assert all(len(part) <= LONGEST_VALUE + 20 for part in key.split(" "))
    assert "\n" not in key
    assert key.encode()


def test_value_that_no_event_could_hold_still_makes_a_key():
    assert load_key("a", {"num_ctx": "\ud800"}).encode()
    assert load_key("a", {"num_ctx": 10**30}) != load_key("a", {"num_ctx": 10**30 + 1})
