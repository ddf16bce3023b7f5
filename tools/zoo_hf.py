"""Hugging Face architectures for `zoo.py`: small configurations with seeded random weights, so that nothing is downloaded."""
import torch
from torch import nn


class Outputs(nn.Module):
    """A model whose outputs are the tensors that its class returns, without the class; its inputs are given by name."""

    def __init__(self, model, *names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs):
        return tuple(self.model(**dict(zip(self.names, inputs)), return_dict=False))


class Backbone(nn.Module):
    """The feature maps of a detection model's backbone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels, mask):
        features = self.model(pixels, mask)
        return [map for map, _ in features] if isinstance(features, list) else features


TEXT = dict(vocab_size=120, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
DECODER = dict(TEXT, num_key_value_heads=2, max_position_embeddings=64)
VISION = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32)


def tokens(length=11):
    return torch.randint(3, 120, (2, length))


def padded(length=11):
    """Tokens, and a mask that leaves out the end of the second row."""
    mask = torch.ones(2, length, dtype=torch.int64)
    mask[1, length - 4:] = 0
    return tokens(length), mask


def image(size=32):
    return (torch.randn(2, 3, size, size),)


def text_models(hf):
    masked = lambda model: (Outputs(model, "input_ids", "attention_mask"), padded())
    small = dict(TEXT, max_position_embeddings=40)
    yield "BERT", lambda: masked(hf.BertModel(hf.BertConfig(**small)))
    yield "DistilBERT", lambda: masked(hf.DistilBertModel(hf.DistilBertConfig(
        vocab_size=120, dim=64, n_layers=2, n_heads=4, hidden_dim=96, max_position_embeddings=40)))
    yield "RoBERTa", lambda: masked(hf.RobertaModel(hf.RobertaConfig(**small)))
    yield "MPNet", lambda: masked(hf.MPNetModel(hf.MPNetConfig(**small)))
    yield "GPT-2", lambda: (Outputs(hf.GPT2LMHeadModel(hf.GPT2Config(
        vocab_size=120, n_embd=64, n_layer=2, n_head=4, n_positions=40, use_cache=False)), "input_ids"), (tokens()[:1],))
    yield "Llama", lambda: masked(hf.LlamaForCausalLM(hf.LlamaConfig(**DECODER, use_cache=False)))
    yield "Qwen2", lambda: (Outputs(hf.Qwen2ForCausalLM(hf.Qwen2Config(**DECODER, use_cache=False)), "input_ids"),
                            (tokens(),))
    yield "T5 encoder", lambda: masked(hf.T5EncoderModel(hf.T5Config(
        vocab_size=120, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4)))
    yield "CLIP text", lambda: masked(hf.CLIPTextModel(hf.CLIPTextConfig(**small, eos_token_id=119)))


def lively(model):
    """The model with convolutions that carry their input on: with the library's own weights deep ones forget it."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 1, 1.5)
    return model


def vision_models(hf):
    pixels = lambda model, size=32: (Outputs(lively(model), "pixel_values"), image(size))
    yield "CLIP vision", lambda: pixels(hf.CLIPVisionModel(hf.CLIPVisionConfig(**VISION, patch_size=8)))
    yield "ViT", lambda: pixels(hf.ViTModel(hf.ViTConfig(**VISION, patch_size=8)))
    yield "DeiT", lambda: pixels(hf.DeiTModel(hf.DeiTConfig(**VISION, patch_size=8)))
    yield "Swin", lambda: pixels(hf.SwinModel(hf.SwinConfig(
        image_size=64, patch_size=4, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4)), 64)
    yield "ConvNeXt", lambda: pixels(hf.ConvNextModel(hf.ConvNextConfig(
        hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1], layer_scale_init_value=0.5)), 64)
    yield "SegFormer", lambda: pixels(hf.SegformerForSemanticSegmentation(hf.SegformerConfig(
        hidden_sizes=[16, 32, 40, 64], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 4, 4],
        decoder_hidden_size=32, num_labels=5)), 64)
    yield "DETR backbone", lambda: detr(hf)
    yield "MobileViT", lambda: pixels(hf.MobileViTModel(hf.MobileViTConfig(
        image_size=64, hidden_sizes=[24, 32, 40], neck_hidden_sizes=[16, 16, 24, 32, 40, 48, 64],
        num_attention_heads=4)), 64)


def detr(hf):
    backbone = hf.ResNetConfig(embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1],
                               layer_type="basic", out_features=["stage1", "stage2", "stage3", "stage4"])
    config = hf.DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
                           backbone_config=backbone, d_model=32, encoder_layers=1, decoder_layers=1,
                           encoder_ffn_dim=48, decoder_ffn_dim=48, encoder_attention_heads=4,
                           decoder_attention_heads=4, num_queries=5)
    model = hf.DetrModel(config)
    return Backbone(lively(model.backbone)), (torch.randn(1, 3, 64, 64), torch.ones(1, 64, 64, dtype=torch.int64))


def audio_models(hf):
    yield "Whisper encoder", lambda: (Outputs(hf.models.whisper.modeling_whisper.WhisperEncoder(hf.WhisperConfig(
        vocab_size=120, d_model=64, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=96,
        num_mel_bins=20, max_source_positions=50, init_std=0.1)), "input_features"), (torch.randn(1, 20, 100),))
    yield "wav2vec2", lambda: (Outputs(hf.Wav2Vec2Model(hf.Wav2Vec2Config(
        vocab_size=32, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        conv_dim=(32, 32, 32), conv_stride=(5, 2, 2), conv_kernel=(10, 3, 3), num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4)), "input_values"), (torch.randn(1, 1600),))


def models():
    """The 19 architectures of this set: names, and functions that give a model and its inputs."""
    import transformers as hf

    hf.logging.set_verbosity_error()
    yield from text_models(hf)
    yield from vision_models(hf)
    yield from audio_models(hf)


class Named(nn.Module):
    """A text model with inputs of its own names, whose tensors are the outputs."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return tuple(self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=False))


def write_fixtures():
    """Tiny ones as fixtures of tests/programs.rs: masks that depend on the input, rotary positions, relative ones."""
    import programs
    import transformers as hf

    programs.DATA = programs.DATA / "hugging-face"
    programs.DATA.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    tiny = dict(vocab_size=24, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20)
    mask = torch.ones(2, 5, dtype=torch.int64)
    mask[1, 3:] = 0
    inputs = (torch.randint(3, 24, (2, 5)), mask)
    for name, model in {
        "bert": hf.BertModel(hf.BertConfig(**tiny, max_position_embeddings=8)),
        "llama": hf.LlamaForCausalLM(hf.LlamaConfig(**tiny, num_key_value_heads=1, use_cache=False)),
        "t5": hf.T5EncoderModel(hf.T5Config(vocab_size=24, d_model=16, d_kv=8, d_ff=20, num_layers=1, num_heads=2)),
    }.items():
        programs.write(name, Named(model), inputs)


if __name__ == "__main__":
    write_fixtures()
