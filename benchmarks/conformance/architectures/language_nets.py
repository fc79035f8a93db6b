"""Language models of transformers, built small from their configurations, and a few of our own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.conformance.architectures.architecture import Flat, Input, net

WORDS, LENGTH = 99, 12
IDS = Input("input_ids", (LENGTH,), below=WORDS)
MASK = Input("attention_mask", (LENGTH,), below=1)


class OfIds(Flat):
    """Takes token numbers."""

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """(batch, length) -> the model's outputs."""
        return self.run(input_ids=input_ids)


class OfText(Flat):
    """Takes token numbers and a mask."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """(batch, length) twice -> the model's outputs."""
        return self.run(input_ids=input_ids, attention_mask=attention_mask)


class OfPairs(Flat):
    """Takes the token numbers of an encoder and of a decoder."""

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor) -> tuple[Tensor, ...]:
        """(batch, length) twice -> the model's outputs."""
        return self.run(input_ids=input_ids, decoder_input_ids=decoder_input_ids)


_BERT: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
_LLAMA: dict[str, Any] = {**_BERT, "num_key_value_heads": 2}


def _of(model: str, config: dict[str, Any], kind: type[Flat] = OfText, **fixed: Any) -> nn.Module:
    """A model of transformers around a configuration of the same family."""
    import transformers

    made = getattr(transformers, model)
    return kind(made(made.config_class(**config)), return_dict=False, **fixed)


def _encoder(name: str, model: str, formats: bool = False, **config: Any) -> None:
    @net(name, "language", IDS, MASK, formats=formats)
    def build() -> nn.Module:
        return _of(model, {**_BERT, **config})


def _decoder(name: str, model: str, formats: bool = False, **config: Any) -> None:
    @net(name, "language", IDS, MASK, formats=formats)
    def build() -> nn.Module:
        return _of(model, {**_LLAMA, "pad_token_id": 0, **config}, OfText, use_cache=False)


_encoder("bert", "BertForSequenceClassification", formats=True)
_encoder("roberta", "RobertaForTokenClassification", formats=True, max_position_embeddings=66, pad_token_id=1)
_encoder("albert", "AlbertForSequenceClassification", formats=True, embedding_size=16)
_encoder("electra", "ElectraForMaskedLM", embedding_size=16)
_encoder(
    "deberta_v2", "DebertaV2ForSequenceClassification", relative_attention=True, pos_att_type=["p2c", "c2p"]
)
_encoder(
    "distilbert",
    "DistilBertForSequenceClassification",
    formats=True,
    dim=32,
    n_layers=2,
    n_heads=4,
    hidden_dim=64,
)
_encoder("mpnet", "MPNetForSequenceClassification", max_position_embeddings=66)
_encoder("squeezebert", "SqueezeBertForSequenceClassification", embedding_size=32)
_encoder("convbert", "ConvBertForSequenceClassification", embedding_size=32, conv_kernel_size=3)
_encoder("roformer", "RoFormerForSequenceClassification", embedding_size=32)
_encoder(
    "modernbert",
    "ModernBertForSequenceClassification",
    pad_token_id=0,
    global_attn_every_n_layers=2,
    local_attention=8,
)


@net("funnel", "language", IDS, MASK)
def funnel() -> nn.Module:
    """Funnel transformer."""
    sizes = {
        "d_model": 32,
        "n_head": 4,
        "d_head": 8,
        "d_inner": 64,
        "block_sizes": [1, 1],
        "num_decoder_layers": 1,
    }
    return _of("FunnelModel", {"vocab_size": WORDS, **sizes})


@net("xlnet", "language", IDS, MASK)
def xlnet() -> nn.Module:
    """XLNet."""
    sizes = {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}
    return _of("XLNetForSequenceClassification", {"vocab_size": WORDS, **sizes}, use_mems=False)


_GPT2: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
_decoder("gpt2", "GPT2LMHeadModel", formats=True, **_GPT2)
_decoder("gpt_neox", "GPTNeoXForCausalLM")
_decoder("opt", "OPTForCausalLM", ffn_dim=64, word_embed_proj_dim=32)
_decoder("bloom", "BloomForCausalLM", n_layer=2, n_head=4)
_decoder("llama", "LlamaForCausalLM", formats=True)
_decoder("mistral", "MistralForCausalLM", sliding_window=8)
_decoder("qwen2", "Qwen2ForCausalLM", formats=True)
_decoder("qwen3", "Qwen3ForCausalLM", head_dim=8)
_decoder("gemma2", "Gemma2ForCausalLM", head_dim=8, sliding_window=8)
_decoder("phi", "PhiForCausalLM")
_decoder("mixtral", "MixtralForCausalLM", num_local_experts=4)
_decoder("mamba", "MambaForCausalLM", state_size=4)
_decoder(
    "mamba2", "Mamba2ForCausalLM", state_size=4, num_heads=4, head_dim=16, expand=2, n_groups=1, chunk_size=4
)
_decoder("rwkv", "RwkvForCausalLM", attention_hidden_size=32)
_decoder("fnet", "FNetModel", tpu_short_seq_length=12)


@net("t5_encoder", "language", IDS, MASK, formats=True)
def t5_encoder() -> nn.Module:
    """The encoder of T5."""
    return _of("T5EncoderModel", {**_T5})


_T5: dict[str, Any] = {
    "vocab_size": WORDS, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0, "attn_implementation": "eager",
}  # fmt: skip


@net("t5", "language", IDS, Input("decoder_input_ids", (6,), below=WORDS))
def t5() -> nn.Module:
    """Encoder and decoder of T5."""
    return _of("T5ForConditionalGeneration", _T5, OfPairs, use_cache=False)


@net("bart", "language", IDS, Input("decoder_input_ids", (6,), below=WORDS))
def bart() -> nn.Module:
    """BART."""
    sizes = {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
    }
    widths = {"vocab_size": WORDS, "d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    return _of(
        "BartForConditionalGeneration",
        {**sizes, **widths, "max_position_embeddings": 64},
        OfPairs,
        use_cache=False,
    )


class _TextClassifier(nn.Module):
    """torch's own encoder layers over embeddings, as in its tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 32)
        self.position = nn.Parameter(torch.randn(LENGTH, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(input_ids) + self.position).mean(1))  # type: ignore[no-any-return]


@net("torch_transformer", "language", IDS)
def torch_transformer() -> nn.Module:
    """nn.TransformerEncoder."""
    return _TextClassifier()


class _CharCnn(nn.Module):
    """Kim's convolutional net for sentences."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.convolutions = nn.ModuleList([nn.Conv1d(16, 8, width) for width in (2, 3, 4)])
        self.head = nn.Linear(24, 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids).transpose(1, 2)
        return self.head(torch.cat([c(x).relu().amax(-1) for c in self.convolutions], 1))  # type: ignore[no-any-return]


@net("text_cnn", "language", IDS, formats=True)
def text_cnn() -> nn.Module:
    """TextCNN."""
    return _CharCnn()
