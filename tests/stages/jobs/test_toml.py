import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.jobs.toml import toml_document, toml_value

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)


@given(st.dictionaries(texts, values))
def test_what_is_written_is_read_back_as_it_was(settings):
    assert tomllib.loads(toml_document(settings)) == settings


@pytest.mark.parametrize("text", ["🌸", "\x7f", "\x00\x1f", '"\\', "a\r\nb", "\ufeff", "\u2028"])
def test_every_text_has_a_value_of_one_line(text):
    value = toml_value(text)
    assert tomllib.loads(f"key = {value}")["key"] == text
    assert "\n" not in value


@pytest.mark.parametrize("value", ["\ud800", None, b"bytes", object()])
def test_what_toml_cannot_express_is_refused(value):
    with pytest.raises(ValueError, match=r"TOML has no|surrogates"):
        toml_value(value)
