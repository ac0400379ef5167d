"""What LiteLLM's model prefixes stand for: who speaks there, where, and under which key. Pure."""

import re
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from common import address
from ctl.imports.draft import slug, words


class Known(Struct, frozen=True):
    """`base_url` empty: the file must say it. `key_env`: what LiteLLM reads without an api_key."""

    type: str
    base_url: str = ""
    key_env: str = ""


_OPENAI = Known("openai", "https://api.openai.com/v1", "OPENAI_API_KEY")
_ANTHROPIC = Known("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY")
_OLLAMA = Known("ollama", "http://127.0.0.1:11434")
_COMPATIBLE = Known("openai_compatible")


def _cloud(base_url: str, key_env: str) -> Known:
    return Known("openai_compatible", base_url, key_env)


#: Those that speak OpenAI's protocol under a path that ends in /v1, or one that the router knows.
KNOWN: dict[str, Known] = {
    "openai": _OPENAI,
    "text-completion-openai": _OPENAI,
    "anthropic": _ANTHROPIC,
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "hosted_vllm": Known("vllm"),
    "vllm": Known("vllm"),
    "llamafile": Known("llama_cpp", "http://127.0.0.1:8080"),
    "custom_openai": _COMPATIBLE,
    "lm_studio": _COMPATIBLE,
    "litellm_proxy": _COMPATIBLE,
    "xinference": _COMPATIBLE,
    "infinity": _COMPATIBLE,
    "huggingface": _COMPATIBLE,
    "groq": _cloud("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "deepseek": _cloud("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "mistral": _cloud("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "together_ai": _cloud("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "openrouter": _cloud("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "fireworks_ai": _cloud("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "xai": _cloud("https://api.x.ai/v1", "XAI_API_KEY"),
    "nvidia_nim": _cloud("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "cerebras": _cloud("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
}
#: Another protocol, signed requests or paths of their own: an adapter must stand between.
FOREIGN = words(
    """azure azure_ai bedrock vertex_ai vertex_ai_beta gemini sagemaker sagemaker_chat cohere
    cohere_chat replicate watsonx databricks cloudflare palm ai21 aleph_alpha baseten nlp_cloud
    petals voyage jina_ai perplexity deepinfra github github_copilot snowflake predibase triton
    assemblyai deepgram elevenlabs topaz oobabooga"""
)
#: What people write where no key is wanted.
PLACEHOLDERS = frozenset(
    {"", "none", "null", "empty", "anything", "dummy", "fake", "fake-key", "no-key", "unused"}
    | {"not-needed", "not-required", "sk-fake", "sk-no-key-required", "na", "n/a", "placeholder"}
    | {"ollama", "vllm", "local", "test", "x", "xxx", "dummy-key"}
)


def is_variable(name: str) -> bool:
    """Whether an environment variable can be called so: else it is more likely the key itself."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None and not name.startswith("sk_")


def split(model: str, provider: str | None) -> tuple[str, str]:
    """LiteLLM's `openai/gpt-4o` as (`openai`, `gpt-4o`); a bare name by what it begins with."""
    if provider:
        return provider, model.removeprefix(f"{provider}/")
    prefix, slash, rest = model.partition("/")
    if slash and (prefix in KNOWN or prefix in FOREIGN):
        return prefix, rest
    if model.startswith("claude"):
        return "anthropic", model
    if model.startswith(
        ("gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-", "dall-e", "tts-")
    ):
        return "openai", model
    if model.startswith("whisper-"):
        return "openai", model
    return (prefix, rest) if slash else ("", model)


def clean_url(url: str) -> tuple[str, bool]:
    """Without credentials, query and a route at its end; whether something secret was taken out.

    Empty: it is no address.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "", False
    if parts.scheme not in {"http", "https"} or not address.is_host(host):
        return "", False
    host = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/")
    for route in ("/chat/completions", "/completions", "/embeddings", "/messages"):
        path = path.removesuffix(route)
    secret = bool(parts.username or parts.password or parts.query)
    if host == "0.0.0.0":  # noqa: S104  (theirs: an address to connect to it is none)
        host = "127.0.0.1"
    return urlunsplit((parts.scheme, host + port, path, "", "")), secret


def name_of(prefix: str, url: str, known: Known) -> str:
    """`openai` at its own address, else `vllm-10-0-0-5-8001`: keys without dots need no quotes."""
    who = (prefix or "openai").removeprefix("hosted_").removesuffix("_chat")
    if url == known.base_url:
        return slug(who)
    parts = urlsplit(url)
    port = f"-{parts.port}" if parts.port else ""
    return slug(f"{who}-{parts.hostname or ''}{port}".replace(".", "-"))
