"""Writes a tiny llama model with random weights as a GGUF file: gibberish, but a real model.

For demos and tests of llama.cpp servers without a model hub: 0.6 MB, written in a quarter second,
the same bytes every time.
"""

import argparse
import os
import sys
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

HEADS = 4
SEED = 7
#: Punctuation, control and byte tokens get logit 0, the syllables random ones: what is sampled
#: stays clean ASCII, and the end-of-text token is rare.
QUIET_LOGIT = 0.0

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def vocabulary() -> tuple[list[bytes], list[int], int]:
    """Tokens, their types, and how many at the front are never meant to be sampled."""
    kind = gguf.TokenType
    tokens: list[bytes] = [b"<unk>", b"<s>", b"</s>"]
    types: list[int] = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL]
    for byte in range(256):
        tokens.append(f"<0x{byte:02X}>".encode())
        types.append(kind.BYTE)
    quiet = [chr(code) for code in range(33, 127)]
    syllables = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
    space = "\u2581"  # SentencePiece's mark of a word's start
    words = [*quiet, space, *(space + syllable for syllable in syllables), *syllables]
    tokens += [word.encode() for word in words]
    types += [kind.NORMAL] * len(words)
    return tokens, types, len(tokens) - len(words) + len(quiet)


def write_model(path: Path, dim: int = 64, layers: int = 2, context: int = 4096) -> None:
    """Write the model to `path`, whole or not at all. `dim` is a multiple of 8."""
    partial = path.with_name(path.name + ".partial")
    try:
        _write(partial, dim, layers, context)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, dim: int, layers: int, context: int) -> None:
    tokens, types, quiet = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(context)
    writer.add_embedding_length(dim)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * dim)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(dim // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(rank) if rank > 258 else 0.0 for rank in range(len(tokens))])
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in _tensors(len(tokens), quiet, dim, layers):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(vocab: int, quiet: int, dim: int, layers: int) -> list[tuple[str, Floats]]:
    dice = np.random.default_rng(SEED)

    def random(*shape: int) -> Floats:
        return (dice.standard_normal(shape) * 0.3).astype(np.float32)

    ones: Floats = np.ones(dim, np.float32)
    output = random(vocab, dim) * 2
    output[:quiet] = QUIET_LOGIT
    tensors = [
        ("token_embd.weight", random(vocab, dim)),
        ("output.weight", output),
        ("output_norm.weight", ones),
    ]
    for layer in range(layers):
        block = f"blk.{layer}."
        tensors += [
            (block + "attn_norm.weight", ones),
            (block + "ffn_norm.weight", ones),
            *((block + f"attn_{part}.weight", random(dim, dim)) for part in ("q", "k", "v")),
            (block + "attn_output.weight", random(dim, dim)),
            (block + "ffn_gate.weight", random(2 * dim, dim)),
            (block + "ffn_up.weight", random(2 * dim, dim)),
            (block + "ffn_down.weight", random(dim, 2 * dim)),
        ]
    return tensors


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/tiny_gguf.py", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT.gguf", help="the file to write")
    parser.add_argument("--dim", type=int, default=64, help="embedding length (default 64)")
    parser.add_argument("--layers", type=int, default=2, help="transformer blocks (default 2)")
    parser.add_argument("--context", type=int, default=4096, help="context length (default 4096)")
    args = parser.parse_args()
    if args.dim <= 0 or args.dim % (2 * HEADS) or args.layers <= 0 or args.context <= 0:
        parser.error(f"--dim is a positive multiple of {2 * HEADS}; the others are positive")
    try:
        write_model(args.out, args.dim, args.layers, args.context)
    except OSError as error:
        print(f"{args.out} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, random weights: it talks gibberish")
    return 0


if __name__ == "__main__":
    sys.exit(main())
