"""One set of hidden characters, and what each use makes of them."""

import json
import unicodedata

from mtsql.shown.harmless import neutral, to_json, visible

SAMPLES = "\x07\x1b\x7f\x9b\u00ad\u200b\u200e\u2028\u202e\u2066\ufe0f\ufeff\ufffa\ud800\U000e0041"


def test_no_use_lets_a_hidden_character_through():
    for character in SAMPLES:
        text = f"a{character}b"
        assert to_json({"x": text}).isascii()
        assert json.loads(to_json({"x": text})) == {"x": text}
        assert neutral(text) == "a b"
        assert visible(text) == f"a{ascii(character)[1:-1]}b"


def test_all_control_and_format_characters_of_the_common_scripts_are_hidden():
    # A few marks of Arabic, Syriac and Kaithi numbers are letters to a reader, and stay.
    marks = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
    for code in range(0x10000):
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Cf") and character not in marks:
            assert visible(character) != character, hex(code)


def test_a_code_block_cannot_be_opened_in_a_prompt():
    assert neutral("```sql\nSELECT 1\n```") == "`` `sql SELECT 1 `` `"
    assert neutral("`````") == "`` `` `"
    assert neutral("SELECT `a``b` FROM t") == "SELECT `a``b` FROM t"


def test_what_can_be_seen_stays_as_it_is():
    text = "Żółw 北京 <b> 'a' \xa0 ~"
    assert visible(text) == text
    assert visible("a\tb\nc", keep="\n") == "a\\tb\nc"
