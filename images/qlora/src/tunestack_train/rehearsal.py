"""The model of the preset `rehearsal`: a tiny Gemma 2 with random weights and a tokenizer of its own.

Both are made on the spot from the training data, without a network, and are the same for the same data and seed. Nobody
wants the model; what it rehearses is everything around it, by the code that trains the real ones.
"""

import io
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from tunestack_train.checkpoints import write_folder
from tunestack_train.data.examples import Conversation, Example, PromptCompletion
from tunestack_train.device import importing, silence_progress_bars

VOCABULARY: Final = 2048
_TOKENIZER_EXAMPLES: Final = 20_000
"""Examples that the tokenizer is made from: enough for its size, and few enough for any memory."""

SHAPE: Final[Mapping[str, Any]] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 192,
    "intermediate_size": 576,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 48,
}
"""Fields of its config.json. The vocabulary is at most that large; how large, the data decides."""
_SPECIAL: Final = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
# Gemma's tokenizer knows these as whole tokens too, and no token of its crosses a line break.
_WHOLE: Final = ["<mask>", "<start_of_turn>", "<end_of_turn>", "\n", "\n\n"]


def make_model(folder: Path, examples: Iterable[Example], seed: int) -> Path:
    """Writes model and tokenizer to `folder`, whole or not at all."""

    def fill(partial: Path) -> None:
        make_tokenizer(partial, examples)
        _write_weights(partial, seed)

    return write_folder(folder, fill)


def make_tokenizer(folder: Path, examples: Iterable[Example]) -> Path:
    """Writes the tokenizer alone to an existing folder, and returns that."""
    texts = [text for example in islice(examples, _TOKENIZER_EXAMPLES) for text in _texts(example)]
    _write_tokenizer(folder, texts)
    return folder


def _texts(example: Example) -> list[str]:
    if isinstance(example, Conversation):
        return [turn.content for turn in example.turns]
    if isinstance(example, PromptCompletion):
        return [example.prompt, example.completion]
    return [example.text]


def _write_tokenizer(folder: Path, texts: list[str]) -> None:
    import sentencepiece

    # Turns are short texts that repeat the words of the template, and the answers are what has to be written.
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*texts, "user", "model"]),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece=_SPECIAL["pad_token"],
        eos_piece=_SPECIAL["eos_token"],
        bos_piece=_SPECIAL["bos_token"],
        unk_piece=_SPECIAL["unk_token"],
        user_defined_symbols=_WHOLE,
        max_sentence_length=1 << 20,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    settings = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"],
        **_SPECIAL,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _write_weights(folder: Path, seed: int) -> None:
    with importing():
        import sentencepiece
        import torch
        from transformers import Gemma2Config, Gemma2ForCausalLM

        silence_progress_bars()
    vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).get_piece_size()
    # Wide initial weights: embeddings are not trained by LoRA, and narrow ones could not tell words apart.
    config = Gemma2Config(
        vocab_size=vocabulary,
        **{field: size for field, size in SHAPE.items() if field != "vocab_size"},
        query_pre_attn_scalar=48,
        max_position_embeddings=2048,
        sliding_window=256,
        initializer_range=0.1,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Gemma2ForCausalLM(config)
    model.bfloat16()
    model.save_pretrained(folder)
