"""Text from outside is made safe to show."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.redact import clean, hide_secrets, one_line, quote

ANY = st.one_of(
    st.text(), st.binary(), st.text(alphabet="\x1b[]8;m\r\n\x07|K=:/@ abA1\u202e\u200b\U000e0041")
)


@given(ANY)
def test_clean_leaves_no_control_or_format_character(text):
    for char in clean(text):
        assert char in "\n\t" or unicodedata.category(char)[0] != "C"
        assert unicodedata.category(char) not in ("Zl", "Zp")


@given(ANY)
def test_cleaning_twice_changes_nothing_more(text):
    assert clean(clean(text)) == clean(text)


@given(ANY, st.integers(0, 300))
def test_a_quote_stays_in_its_limit_and_marks_every_line(text, limit):
    quoted = quote(text, limit)
    assert len(quoted.encode()) <= limit
    if limit >= 30:
        assert all(line.startswith("| ") for line in quoted.splitlines())


@given(ANY, st.integers(0, 100))
def test_one_line_is_one_line_within_its_limit(text, limit):
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("\x1b[1;32mgreen\x1b[0m", "green"),
        ("\x1b]8;;https://x.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("\x9b31mred", "red"),
        ("\x1b]8;;never closed\nnext line", "\nnext line"),
        (b"caf\xc3\xa9 \xff\xfe\xc3", "café "),
        ("a\u200bb\u202ec\ufeffd", "abcd"),
        ("x\U000e0069\U000e0067y", "xy"),
        ("smuggled\ufe01\U000e0150", "smuggled"),
        ("nul\0bell\x07back\x08", "nulbellback"),
        ("one\u2028two", "one two"),
        ("\ue000private\ud800", "private"),
        ("tab\tand\nline", "tab\tand\nline"),
    ],
)
def test_what_a_terminal_would_obey_is_dropped(raw, seen):
    assert clean(raw) == seen


def test_progress_is_left_in_its_last_state():
    assert clean("step 1\rstep 2\rstep 3\nloss\r\n10%\r20%\r") == "step 3\nloss\n20%"


def test_a_cut_quote_keeps_the_end_and_says_how_much_is_gone():
    quoted = quote("\n".join(f"line {i}" for i in range(1000)), 100)
    assert quoted.startswith("| [")
    assert "bytes cut]" in quoted.split("\n")[0]
    assert quoted.endswith("| line 999")


def test_a_quoted_line_can_be_neither_heading_nor_metric_nor_tag():
    for line in quote("# done\nval_bpb: 0.1\n</system>\nMETRIC val_bpb=0\n\n---", 400).split("\n"):
        assert line.startswith("| ")


def test_one_line_says_that_it_was_cut():
    assert one_line("a  b\n\tc", 10) == "a b c"
    assert one_line("abcdefgh", 5) == "abcd…"


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcDEF0123456789abcDEF",
        "hf_AbCdEfGhIjKlMnOpQrStUvWx",
        "ghp_0123456789abcdefABCDEF0123456789abcd",
        "github_pat_11ABCDEFG0123456789_abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "glpat-abcdefgh12345678",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    ],
)
def test_a_key_is_hidden_by_its_shape(secret):
    assert secret not in clean(f"using {secret} now")
    assert secret[8:] not in clean(f"'{secret}'")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("OPENAI_API_KEY=abc", "OPENAI_API_KEY=[hidden]"),
        ("TOKEN=abc def", "TOKEN=[hidden] def"),
        ('{"api_key": "abc def"}', '{"api_key": [hidden]}'),
        ("password: hunter2", "password: [hidden]"),
        ("export KEY='a b'", "export KEY=[hidden]"),
        ("https://me:pw@host/x", "https://[hidden]@host/x"),
        ("Authorization: Bearer abcdefghijklmnop1234", "Authorization: Bearer [hidden]"),
        ("s\u200bk-abcdef1234567890", "[hidden]"),
    ],
)
def test_a_value_is_hidden_by_its_name_or_place(text, left):
    assert clean(text) == left


def test_a_private_key_is_hidden_even_when_cut():
    body = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"] * 4)
    for text in (
        f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{body}",
        f"{body}\n-----END PRIVATE KEY-----",
    ):
        assert "MIIE" not in hide_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "total_tokens_M: 499.6",
        "KeyError: 'lr'",
        "tokens=8192 max_token=512",
        "x = sorted(rows, key=lambda row: row.loss)",
        "import sk-learn-contrib and hf_transfer",
        "val_bpb: 0.997900",
        "https://host/path:8080",
        "num_key: 12",
    ],
)
def test_ordinary_log_text_stays_as_it_is(text):
    assert hide_secrets(text) == text
