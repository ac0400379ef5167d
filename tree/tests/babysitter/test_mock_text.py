"""The same prompt gets the same words, in every shape."""

from babysitter.mock.text import embedding, token_count, tokens


def test_the_same_prompt_gets_the_same_words() -> None:
    def said(prompt: str) -> str:
        return "".join(tokens("a", "m", [prompt], 40))

    assert said("hi") == said("hi")
    assert said("hi") != said("ho")


def test_it_names_itself_says_back_what_it_heard_and_keeps_its_count() -> None:
    found = list(tokens("mock-a", "m", ["one two"], 9))
    assert len(found) == 9
    assert "".join(found).startswith("mock-a: turn 1. one two ")


def test_a_later_turn_remembers_the_first() -> None:
    heard = ["my name is Ada", "what is my name"]
    text = "".join(tokens("a", "m", heard, 16))
    assert "turn 2." in text
    assert "Earlier: my name is Ada" in text


def test_an_anonymous_engine_says_what_any_other_would() -> None:
    assert next(tokens(None, "m", [], 1)) == "mock:"


def test_more_tokens_begin_like_fewer() -> None:
    few, many = (list(tokens("a", "m", ["x"], n)) for n in (12, 300))
    assert many[:12] == few


def test_embeddings_depend_on_the_text_and_the_model() -> None:
    one = embedding("m", "a", 8)
    assert one == embedding("m", "a", 8)
    assert one != embedding("m", "b", 8)
    assert one != embedding("n", "a", 8)
    assert all(-1 <= number <= 1 for number in embedding("m", "a", 500))


def test_every_text_has_a_token() -> None:
    assert (token_count(""), token_count("a b  c")) == (1, 3)
