"""Runs the generator's torch engine on a small model of random weights; prints what became of its rows as JSON.

By the torch environment's Python: `python models/torch_rows.py FOLDER`. FOLDER: for the model.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "generator" / "1"))

import torch
from generator_engine import Done, Limits, open_engine
from sampling import parse
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [f"w{number}" for number in range(254)]

LIMITS = Limits(max_prompt_tokens=64, max_rows=8, max_batched_tokens=64, cache_gb=1)


class Listener:
    def __init__(self, *, wanted: bool = True) -> None:
        self.told: dict[str, Any] = {}
        self.ended = threading.Event()
        self._wanted = wanted

    def piece(self, text: str, input_tokens: int, output_tokens: int) -> None:  # noqa: ARG002
        self.told.setdefault("pieces", []).append(text)

    def done(self, text: str, result: Done, output_tokens: int) -> None:  # noqa: ARG002
        self.told |= {
            "text": text,
            "reason": result.finish_reason,
            "tokens": [result.input_tokens, result.output_tokens],
        }
        self.ended.set()

    def failed(self, failure: Exception) -> None:
        self.told["failed"] = str(failure)
        self.ended.set()

    def wanted(self) -> bool:
        return self._wanted

    def dropped(self, result: Done) -> None:
        self.told["dropped"] = result.finish_reason
        self.ended.set()


def made(folder: Path) -> None:
    torch.manual_seed(0)
    vocabulary = {word: number for number, word in enumerate(["<end>", "<unknown>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    shape = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=0,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)


def main() -> None:
    folder = Path(sys.argv[1])
    made(folder)
    deaths: list[str] = []
    engine = open_engine("torch", folder, LIMITS, lambda failure: deaths.append(str(failure)))
    prompts = [f"w{number} w7 w{number + 1}" for number in range(12)]
    exact = '{"temperature": 0, "max_tokens": 6, "min_tokens": 6}'
    rows = {prompt: Listener() for prompt in prompts}
    for prompt, listener in rows.items():
        engine.submit(prompt, parse(exact, 128), False, listener)
    streamed, unwanted, sampled = Listener(), Listener(wanted=False), Listener()
    engine.submit(prompts[0], parse(exact, 128), True, streamed)
    engine.submit(
        prompts[0],
        parse('{"temperature": 0, "max_tokens": 400, "ignore_eos": true}', 400),
        False,
        unwanted,
    )
    engine.submit(prompts[0], parse('{"temperature": 1, "top_p": 0.5, "max_tokens": 5}', 128), False, sampled)
    refused: list[str] = []
    bad = (
        ("", "{}"),
        ("w1 " * 65, "{}"),
        ("w1", '{"seed": 1, "temperature": 1}'),
        ("w1", '{"logprobs": 1, "temperature": 0}'),
    )
    for prompt, params in bad:
        try:
            engine.submit(prompt, parse(params, 128), False, Listener())
        except ValueError as failure:
            refused.append(f"{type(failure).__name__}: {failure}")
    for listener in (*rows.values(), streamed, unwanted, sampled):
        listener.ended.wait()
    engine.close()
    print(
        json.dumps(
            {
                "rows": {prompt: listener.told for prompt, listener in rows.items()},
                "expected": alone(folder, prompts),
                "streamed": streamed.told,
                "unwanted": unwanted.told,
                "sampled": sampled.told,
                "refused": refused,
                "deaths": deaths,
            }
        )
    )


def alone(folder: Path, prompts: Sequence[str]) -> dict[str, str]:
    """What the model says by itself."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    answers: dict[str, str] = {}
    for prompt in prompts:
        tokens = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
        written = model.generate(tokens, max_new_tokens=6, do_sample=False, eos_token_id=-1)
        answers[prompt] = tokenizer.decode(written[0, tokens.shape[1] :].tolist(), skip_special_tokens=True)
    return answers


if __name__ == "__main__":
    main()
