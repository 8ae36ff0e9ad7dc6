"""A model of sentence-transformers that is made in a moment and knows nothing."""

from __future__ import annotations

import json
import string
from pathlib import Path

LETTERS = string.ascii_lowercase + string.digits + ".,-:"
WINDOW = 24


def make_tiny_model(directory: Path, *, pooling: str = "mean_tokens", seed: int = 7) -> Path:
    """Write a BERT of two layers with random weights, whose tokens are single characters."""
    import torch
    from transformers import BertConfig, BertModel

    directory.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
    vocabulary = {word: i for i, word in enumerate([*words, *(f"##{c}" for c in LETTERS)])}
    (directory / "vocab.txt").write_text("\n".join(vocabulary))
    (directory / "tokenizer.json").write_text(json.dumps(_tokenizer(vocabulary)))
    _write(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": WINDOW},
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(directory)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    _write(directory / "modules.json", modules)
    _write(
        directory / "sentence_bert_config.json", {"max_seq_length": WINDOW, "do_lower_case": False}
    )
    _write(
        directory / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 32, f"pooling_mode_{pooling}": True}
        | ({} if pooling == "mean_tokens" else {"pooling_mode_mean_tokens": False}),
    )
    return directory


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def _tokenizer(vocabulary: dict[str, int]) -> dict[str, object]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    plain: dict[str, object] = json.loads(made.to_str())
    return plain
