"""What holds for the cleaning of any text whatever (hypothesis)."""

import re
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from refers.text.cleaning import DROPPED, MIN_TOKENS, RULES, clean_report, clean_section, normalise
from report_styles import STYLES, Sections

untimed = settings(deadline=None)

# Reports made of headers, sections and noise, so that the header rules are really exercised.
PIECES = st.sampled_from(
    ["FINDINGS:", "Impression:", "FINDINGS AND IMPRESSION:", "CONCLUSION", "HISTORY:", "CLINICAL", "ADDENDUM", "LUNGS:",
     "PLAN OF CARE:", "WET READ:", "FINAL REPORT", "PORTABLE CHEST:", "IMPRESSION -", "\n", "\n ", " ", "___", "(___)", "(", ")",
     "SECOND STUDY:", "OTHER FINDINGS:", "FINDNGS:", "PORTABLE CHEST AT 05:12:", "COMPARISON AND", "- IMPRESSION:", "Report:",
     "TECHNIQUE:", "\n\n", "The lungs are clear.", "[**", "**]", " .", ",", ":", "1.", "2. ", "3)", "left", "No acute process.", "1.5 cm", "[**2101-1-1**]", "\u200b", "ﬁ", "e", "\u0301",
     "findings:", "Impression", "impression", "UNDERLYING MEDICAL CONDITION:", "(Over)", "(Cont)", "IMPRESSION #1:", "**", "## ", "<b>", "</b>",
     "<br/>", "&amp;", "_ _", "----", "Patient is a smoker.",
     "\r\n", "\x85", "\x00", "\x1f", "\ud800"]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=25).map("".join))
SPACED = st.lists(PIECES, max_size=25).map(" ".join)


def words(text: str) -> Counter:
    return Counter(re.findall(r"[^\W_]+", text))


@untimed
@given(TEXTS | SPACED)
def test_cleaning_adds_no_word_and_leaves_one_clean_line(text):
    cleaned = clean_report(text)
    assert words(cleaned.text) <= words(normalise(text))
    assert words(cleaned.text) == words(cleaned.findings) + words(cleaned.impression)
    assert "__" not in cleaned.text
    assert cleaned.text == " ".join(cleaned.text.split())
    assert normalise(cleaned.text) == cleaned.text
    cleaned.text.encode("utf-8")


@untimed
@given(TEXTS | SPACED)
@example("FINDINGS: seen\nCLINICAL\nHISTORY\n: pain")
@example("FINDINGS: 1. 1. one\nIMPRESSION: . 2. 1. two")
@example("FINDINGS: a [** b\nIMPRESSION: c **] d")
def test_cleaned_sections_cleaned_again_stay_as_they_are(text):
    cleaned = clean_report(text)
    again = clean_report(f"FINDINGS: {cleaned.findings}\nIMPRESSION: {cleaned.impression}")
    assert again[:3] == cleaned[:3]


@untimed
@given(TEXTS | SPACED)
@example("0\n.")
@example("1. 1.1. a")
def test_normalising_a_section_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)
    assert clean_section(clean_section(text)) == clean_section(text)


@untimed
@given(TEXTS | SPACED)
def test_a_report_is_kept_exactly_when_it_has_enough_words_and_every_decision_has_a_name(text):
    cleaned = clean_report(text)
    assert (cleaned.dropped == "") == (cleaned.tokens >= MIN_TOKENS)
    assert cleaned.rules <= RULES.keys()
    assert cleaned.dropped in {"", *DROPPED}


CLAUSES = ("the left lung is clear", "heart size is normal", "a 1.5 cm nodule is seen at the right base", "there is no effusion",
           "tubes end 4.2 cm above the carina", "no change since the prior study")  # fmt: skip
SENTENCES = st.lists(st.sampled_from(CLAUSES), max_size=12, unique=True).map(
    lambda found: " ".join(f"{text.capitalize()}." for text in found)
)
KNOWN = st.builds(
    Sections, indication=SENTENCES, comparison=SENTENCES, findings=SENTENCES, impression=SENTENCES
)


@pytest.mark.parametrize("style", STYLES)
@given(sections=KNOWN)
@settings(deadline=None, max_examples=30)
def test_known_sections_are_found_again_in_every_style(style, sections):
    text, findings, impression = STYLES[style](sections)
    cleaned = clean_report(text)
    assert (cleaned.findings, cleaned.impression) == (findings, impression)
    assert bool(cleaned.dropped) != bool(findings or impression)
