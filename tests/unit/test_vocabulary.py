"""The words that ``make lint`` refuses."""

from tools.vocabulary import unwanted


def test_each_word_has_its_line_and_what_to_write() -> None:
    assert unwanted("A key.\nNobody has so many keys.\n") == [
        "2: 'nobody': write no one, any client, another user",
        "2: 'so many': write the number of, up to N",
    ]


def test_words_within_names_count() -> None:
    assert unwanted("def test_pods_are_made_anew() -> None:") == ["1: 'anew': write recreated, restarted, again"]


def test_plain_words_pass() -> None:
    assert unwanted("No one has that many keys, and there is no other way.") == []
