"""Writes the files of tests/data/modules with PyTorch: models that are saved whole, what they print, and what they compute.

    python tools/modules.py tests/data/modules

`layers.pt` has modules that run, with inputs and outputs; `printed.pt` modules of which only the print and the names are
compared; `torchvision.pt` torchvision's nets with the same one number for every weight; the others are one model each.
"""

import copy
import math
import sys
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

FOLDER = Path(sys.argv[1])


def described(module, *inputs):
    """A module with what PyTorch says about it."""
    case = {
        "module": module,
        "printed": str(module),
        "keys": list(module.state_dict()),
        "modules": [name for name, _ in module.named_modules()],
    }
    if inputs:
        with torch.no_grad():
            # Some modules change their input.
            outputs = module(*(x.clone() if torch.is_tensor(x) else x for x in inputs))
            case |= {"inputs": flat(inputs), "expected": [y.clone() for y in flat(outputs)]}
    return case


def flat(outputs):
    return [y for part in outputs for y in flat(part)] if isinstance(outputs, tuple) else [outputs]


def filled(module):
    """The module in eval mode, with statistics and weights that are not those of a new one."""
    for name, tensor in list(module.named_parameters()) + list(module.named_buffers()):
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape)
            with torch.no_grad():
                tensor.copy_(noise + 0.5 if name.endswith(("var", "norm.weight")) else noise - 0.5)
    return module.eval()


def image(*shape):
    return torch.randn(*shape)


def layers():
    x1, x2 = lambda: image(2, 4, 9), lambda: image(2, 4, 7, 6)
    rows = lambda: image(3, 8) * 2
    cases = [
        (nn.Linear(8, 5), rows()),
        (nn.Linear(8, 5, bias=False), rows()),
        (nn.Conv1d(4, 6, 3, stride=2, padding=1), x1()),
        (nn.Conv1d(4, 8, 3, padding="same", groups=2, bias=False), x1()),
        (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), x2()),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect"), x2()),
        (nn.Conv2d(4, 4, 3, padding="valid"), x2()),
        (nn.Conv3d(2, 4, (2, 3, 1), stride=(2, 1, 1), padding=(1, 0, 1), bias=False), image(2, 2, 5, 4, 3)),
        (nn.Conv3d(4, 4, 3, padding="same", groups=2), image(4, 3, 4, 3)),
        (nn.Conv3d(2, 3, (3, 1, 1), dilation=(2, 1, 1), padding_mode="circular", padding=(1, 0, 0)), image(1, 2, 4, 2, 3)),
        (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1), x1()),
        (nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 1), dilation=(1, 3), groups=2, bias=False), x2()),
        (nn.ConvTranspose2d(4, 3, 2, stride=2), image(4, 3, 5)),
        (nn.ConvTranspose2d(4, 3, 1, padding=1, stride=4, output_padding=3), x2()),
        (nn.ConvTranspose3d(2, 4, 3, stride=(2, 1, 2), padding=1, output_padding=(1, 0, 0)), image(2, 2, 3, 4, 2)),
        (nn.BatchNorm1d(4), x1()),
        (nn.BatchNorm1d(8, affine=False), rows()),
        (nn.BatchNorm2d(4, eps=1e-3, momentum=None), x2()),
        (nn.BatchNorm2d(4, track_running_stats=False), x2()),
        (nn.BatchNorm3d(4), image(2, 4, 3, 2, 2)),
        (nn.InstanceNorm1d(4), x1()),
        (nn.InstanceNorm2d(4, affine=True), x2()),
        (nn.InstanceNorm2d(4, affine=True), image(4, 7, 6)),
        (nn.InstanceNorm2d(4, track_running_stats=True), x2()),
        (nn.InstanceNorm3d(4, affine=True, track_running_stats=True), image(2, 4, 3, 2, 2)),
        (nn.LayerNorm(8), rows()),
        (nn.LayerNorm((7, 6), eps=1e-6, bias=False), x2()),
        (nn.LayerNorm(8, elementwise_affine=False), rows()),
        (nn.RMSNorm(8), rows()),
        (nn.RMSNorm((7, 6), eps=1e-4, elementwise_affine=False), x2()),
        (nn.GroupNorm(2, 4), x2()),
        (nn.GroupNorm(4, 8, eps=1e-3, affine=False), rows()),
        (nn.GroupNorm(1, 4), x1()),
        (nn.LocalResponseNorm(3), x2()),
        (nn.LocalResponseNorm(2, alpha=0.5, beta=0.5, k=2.0), x1()),
        (nn.Embedding(7, 3, padding_idx=2), torch.tensor([[0, 2], [6, 5]])),
        (nn.ReLU(inplace=True), rows()),
        (nn.ReLU6(), rows() * 4),
        (nn.LeakyReLU(0.2, inplace=True), rows()),
        (nn.RReLU(), rows()),
        (nn.PReLU(), rows()),
        (nn.PReLU(4), x2()),
        (nn.ELU(0.5), rows()),
        (nn.CELU(2.0), rows()),
        (nn.CELU(), rows()),
        (nn.SELU(), rows()),
        (nn.SiLU(), rows()),
        (nn.Mish(), rows()),
        (nn.GELU(), rows()),
        (nn.GELU("tanh"), rows()),
        (nn.Hardtanh(-0.5, 2.0, inplace=True), rows()),
        (nn.Hardswish(), rows() * 2),
        (nn.Hardsigmoid(), rows() * 2),
        (nn.Sigmoid(), rows()),
        (nn.LogSigmoid(), rows() * 8),
        (nn.Tanh(), rows()),
        (nn.Tanhshrink(), rows()),
        (nn.Softsign(), rows()),
        (nn.Softshrink(0.3), rows()),
        (nn.Softplus(), rows() * 8),
        (nn.Softplus(beta=0.5), rows()),
        (nn.Softmax(dim=1), rows()),
        (nn.Softmin(dim=-1), rows()),
        (nn.LogSoftmax(dim=0), rows()),
        (nn.Softmax2d(), x2()),
        (nn.GLU(dim=1), x2()),
        (nn.MaxPool1d(3, stride=2, padding=1), x1()),
        (nn.MaxPool2d(2, stride=(2, 1), padding=1, ceil_mode=True), x2()),
        (nn.MaxPool2d((3, 2), dilation=2), x2()),
        (nn.AvgPool1d(2), x1()),
        (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), x2()),
        (nn.AvgPool2d((2, 3), divisor_override=5), x2()),
        (nn.AdaptiveAvgPool1d(4), x1()),
        (nn.AdaptiveAvgPool2d((None, 2)), x2()),
        (nn.AdaptiveAvgPool2d(1), x2()),
        (nn.AdaptiveMaxPool1d(4), x1()),
        (nn.AdaptiveMaxPool2d((3, 2)), x2()),
        (nn.ZeroPad1d(1), x1()),
        (nn.ZeroPad2d((1, 2, 0, 1)), x2()),
        (nn.ConstantPad1d((2, 1), 3.5), x1()),
        (nn.ConstantPad2d(1, -1.0), x2()),
        (nn.ReflectionPad1d(2), x1()),
        (nn.ReflectionPad2d((1, 2, 0, 1)), x2()),
        (nn.ReplicationPad2d((1, 2, 0, 1)), x2()),
        (nn.ReplicationPad3d(1), image(1, 2, 2, 3, 2)),
        (nn.CircularPad2d((1, 2, 0, 1)), x2()),
        (nn.Dropout(0.3), rows()),
        (nn.Dropout1d(0.3), x1()),
        (nn.Dropout2d(0.3, inplace=True), x2()),
        (nn.Dropout3d(), image(1, 2, 2, 3, 2)),
        (nn.AlphaDropout(0.3), rows()),
        (nn.FeatureAlphaDropout(0.3), x2()),
        (nn.Identity(), rows()),
        (nn.Flatten(), x2()),
        (nn.Flatten(start_dim=0, end_dim=1), x2()),
        (nn.Unflatten(1, (2, 4)), rows()),
        (nn.Unflatten(-1, torch.Size([-1, 2])), rows()),
        (nn.PixelShuffle(2), x2()),
        (nn.PixelUnshuffle(2), image(2, 3, 4, 6)),
        (nn.ChannelShuffle(2), x2()),
        (nn.Upsample(scale_factor=2), x2()),
        (nn.Upsample(size=(5, 9)), x2()),
        (nn.Upsample(size=13, mode="nearest-exact"), x1()),
        (nn.Upsample(scale_factor=2.5, mode="linear"), x1()),
        (nn.Upsample(scale_factor=(2.0, 1.5), mode="bilinear"), x2()),
        (nn.Upsample(scale_factor=1.7, mode="bilinear", recompute_scale_factor=True), x2()),
        (nn.Upsample(size=(3, 11), mode="bilinear", align_corners=True), x2()),
        (nn.Upsample(scale_factor=2, mode="bicubic"), x2()),
        (nn.Upsample(size=(9, 4), mode="bicubic", align_corners=True), x2()),
        (nn.Upsample(scale_factor=2, mode="trilinear"), image(1, 2, 2, 3, 2)),
        (nn.UpsamplingNearest2d(scale_factor=3), x2()),
        (nn.UpsamplingBilinear2d(size=(8, 8)), x2()),
    ]
    cases += transformers() + containers() + recurrent()
    return [described(filled(module), *inputs) for module, *inputs in cases]


def transformers():
    def layer(**arguments):
        return nn.TransformerEncoderLayer(8, 2, 12, **arguments)

    x = lambda: image(5, 3, 8)
    return [
        (layer(), x()),
        (layer(batch_first=True, activation="gelu"), x()),
        (layer(batch_first=True, norm_first=True, layer_norm_eps=1e-3), x()),
        (layer(activation=nn.GELU(), bias=False, dropout=0.0), x()),
        (layer(norm_first=True), image(5, 8)),
        (nn.TransformerEncoder(layer(batch_first=True), 2, enable_nested_tensor=False), x()),
        (nn.TransformerEncoder(layer(norm_first=True), 3, norm=nn.LayerNorm(8), enable_nested_tensor=False), x()),
        (nn.MultiheadAttention(8, 2), x(), image(4, 3, 8), image(4, 3, 8)),
        (nn.MultiheadAttention(8, 4, batch_first=True, bias=False), *[x()] * 3),
        (nn.MultiheadAttention(8, 2), image(5, 8), image(4, 8), image(4, 8)),
        (nn.TransformerDecoderLayer(8, 2, 12), x(), image(4, 3, 8)),
        (nn.TransformerDecoderLayer(8, 2, 12, norm_first=True, batch_first=True, activation="gelu"), x(), image(5, 4, 8)),
        (nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 12), 2, norm=nn.LayerNorm(8)), x(), image(4, 3, 8)),
        (nn.Transformer(8, 2, 2, 1, 16, batch_first=True), image(3, 4, 8), image(3, 5, 8)),
    ]


def recurrent():
    x = lambda: image(4, 2, 3)
    return [
        (nn.RNN(3, 5), x()),
        (nn.RNN(3, 5, 2, nonlinearity="relu", bias=False), x()),
        (nn.LSTM(3, 5), x()),
        (nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True, dropout=0.3), x()),
        (nn.LSTM(3, 5, 2, proj_size=2, bidirectional=True), x(), (image(4, 2, 2), image(4, 2, 5))),
        (nn.LSTM(3, 5, bias=False), image(4, 3)),
        (nn.GRU(3, 5, 2, bidirectional=True), x(), image(4, 2, 5)),
        (nn.GRU(3, 5, batch_first=True), x()),
        (nn.GRU(3, 5), image(1, 3), image(1, 5)),
    ]


def containers():
    shared = nn.ReLU()
    named = nn.Sequential(OrderedDict(first=nn.Linear(8, 6), act=shared, second=nn.Linear(6, 6), again=shared))
    tied = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    tied[2].weight = tied[0].weight
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Conv2d(4, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.SiLU(), nn.Dropout(0.5)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
        nn.Softmax(dim=-1),
    )
    text = nn.Sequential(
        nn.Embedding(11, 8),
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
        ),
        nn.Linear(8, 3),
    )
    return [
        (named, image(3, 8)),
        (tied, image(3, 8)),
        (net, image(2, 3, 9, 9)),
        (text, torch.randint(0, 11, (2, 4))),
        (nn.DataParallel(nn.Sequential(nn.Linear(8, 3))), image(2, 8)),
        (nn.Sequential(), image(2, 8)),
    ]


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width, bias=False)
        self.act = nn.ReLU()
        self.register_buffer("table", torch.ones(2))
        self.register_buffer("scratch", torch.ones(3), persistent=False)
        self.register_parameter("none", None)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x + self.act(self.fc(x)) * self.scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(8, 4)
        self.blocks = nn.ModuleList([Block(4), Block(4), Block(4), nn.Identity()])
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 2)})
        self.pool = None
        self.classes = ["cat", "it's a dog"]

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.heads["a"](x)


def printed():
    net = Net()
    net.head = net.heads["a"]
    net.add_module("nothing", None)
    modules = [
        net,
        nn.Bilinear(3, 4, 5, bias=False),
        nn.Conv3d(2, 4, 3, stride=2, padding=(1, 0, 1)),
        nn.ConvTranspose1d(2, 4, 3, output_padding=1, stride=2),
        nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False),
        nn.SyncBatchNorm(3),
        nn.EmbeddingBag(5, 3, mode="sum", padding_idx=1),
        nn.Embedding(5, 3, max_norm=1.5, norm_type=1.0, scale_grad_by_freq=True, sparse=True),
        nn.LSTM(3, 4, num_layers=2, batch_first=True, dropout=0.2, bidirectional=True, proj_size=2),
        nn.GRU(3, 4, bias=False),
        nn.RNN(3, 4, nonlinearity="relu"),
        nn.LSTMCell(3, 4),
        nn.RNNCell(3, 4, bias=False, nonlinearity="relu"),
        nn.MultiheadAttention(8, 2, kdim=4, add_bias_kv=True),
        nn.Transformer(8, 2, 2, 1, 16),
        nn.TransformerDecoderLayer(8, 2, 16),
        nn.Threshold(0.1, 20, inplace=True),
        nn.Hardshrink(0.4),
        nn.Hardtanh(inplace=True),
        nn.MaxPool3d(2),
        nn.AvgPool3d((2, 1, 1)),
        nn.LPPool2d(2, 3),
        nn.MaxUnpool2d(2, stride=3),
        nn.AdaptiveAvgPool3d((1, None, 2)),
        nn.FractionalMaxPool2d(3, output_size=2),
        nn.Fold((4, 5), (2, 2)),
        nn.Unfold(3, padding=1),
        nn.CosineSimilarity(dim=1),
        nn.CrossEntropyLoss(weight=torch.ones(3)),
        nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10]),
        nn.ParameterList([torch.ones(2, 3), torch.ones(())]),
        nn.ParameterList([torch.ones(2, 3)]),
        nn.ParameterDict({"a": torch.ones(3), "b": torch.ones(2, 2, dtype=torch.float64)}),
        nn.ModuleList([]),
        nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())]),
    ]
    return [described(module) for module in modules]


def view(pools, name, tensor):
    """Made-up numbers for a weight, a view of one of a few small storages, so that a whole net makes a small file."""
    shape = tensor.shape
    if not tensor.is_floating_point():
        return pools.setdefault("int", torch.zeros((), dtype=tensor.dtype)).expand(shape)
    if len(shape) > 1:
        key = round(math.log2(math.sqrt(6 / max(1, math.prod(shape[1:])))))
        make = lambda: (torch.rand(4096) * 2 - 1) * 2.0**key
    elif name.endswith(("running_var", "weight")):
        key, make = "ones", lambda: torch.rand(4096) + 0.5
    else:
        key, make = "zeros", lambda: (torch.rand(4096) - 0.5) * 0.2
    if key not in pools:
        # Numbers of few bits deflate well.
        scale = 2.0**key if isinstance(key, int) else 1.0
        pools[key] = (make() / scale * 64).round() / 64 * scale
    room = [1450, 1250, 200, 150] if len(shape) > 1 else [4000]
    strides = [max(1, room[i] // size) for i, size in enumerate(shape)]
    return torch.as_strided(pools[key], shape, strides)


def torchvision_nets():
    from torchvision import models
    from torchvision.models import resnet

    def classify(net, width):
        net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(width, 10)
        return net

    nets = {
        "resnet18": models.resnet18(),
        "bottleneck": resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], groups=2, width_per_group=32, num_classes=10),
        "alexnet": classify(models.alexnet(), 256),
        "vgg11_bn": classify(models.vgg11_bn(), 512),
        "vit": models.VisionTransformer(32, 16, 2, 4, 64, 96, num_classes=10),
        "vit_b_16": models.vit_b_16(),
        "mobilenet_v2": models.mobilenet_v2(),
        "mobilenet_v3_small": models.mobilenet_v3_small(num_classes=10),
        "efficientnet_b0": models.efficientnet_b0(num_classes=10),
        "convnext_tiny": models.convnext_tiny(),
        "densenet": models.DenseNet(8, (2, 3), 16, num_classes=10),
        "squeezenet1_1": models.squeezenet1_1(num_classes=10),
        "regnet_y_400mf": models.regnet_y_400mf(num_classes=10),
    }
    pools, cases = {}, []
    for name, net in nets.items():
        for key, tensor in list(net.named_parameters()) + list(net.named_buffers()):
            tensor.data = view(pools, key, tensor)
        size = {"vit": 32, "alexnet": 63, "squeezenet1_1": 63}.get(name, 40)
        case = described(net.eval(), *([] if name == "vit_b_16" else [image(1, 3, size, size)]))
        case["name"] = name
        cases.append(case)
        if len(case) > 5:
            y = case["expected"][0]
            assert y.isfinite().all() and 1e-3 < y.abs().max() < 1e4, (name, y.abs().max())
    return cases


def double(module, inputs):
    return (inputs[0] * 2,)


def other_forward(x):
    return x


def single():
    hooked = nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()
    hooked[0].register_forward_pre_hook(double)
    patched = nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()
    patched[1].forward = other_forward
    train = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, 2))
    filled(train).train()
    harmless = nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.0), nn.ReLU())
    refused = nn.Sequential(
        nn.LSTM(8, 4), nn.Softmax(), nn.MaxPool1d(2, return_indices=True), Block(4), nn.ModuleList([nn.ReLU()])
    ).eval()
    nested = {"epoch": 3, "model": harmless, "optimizer": {"state": {}, "param_groups": []}}
    weight_norm = nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 4)), nn.utils.spectral_norm(nn.Linear(4, 4))).eval()
    models = {
        "hooked": hooked,
        "patched": patched,
        "train": train,
        "harmless": harmless,
        "refused": refused,
        "nested": nested,
        "user": Net().eval(),
        "several": {"g": nn.Sequential(nn.Linear(2, 2)).eval(), "d": nn.Sequential(nn.ReLU()).eval()},
        "weight_norm": weight_norm,
        "compiled": torch.compile(copy.deepcopy(harmless)),
    }
    x = torch.randn(3, 8)
    for name in ["train", "harmless", "weight_norm"]:
        model, training = models[name], models[name].training
        with torch.no_grad():
            torch.save({"x": x, "y": model.eval()(x)}, FOLDER / f"{name}.y.pt")
        model.train(training)
    return models


def deflate(path):
    """Torch stores what it writes; these files are mostly text."""
    with zipfile.ZipFile(path) as file:
        entries = [(entry.filename, file.read(entry)) for entry in file.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            file.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def main():
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, cases in {"layers": layers(), "printed": printed(), "torchvision": torchvision_nets()}.items():
        torch.save({"torch": torch.__version__, "cases": cases}, FOLDER / f"{name}.pt")
    for name, model in single().items():
        torch.save(model, FOLDER / f"{name}.pt")
    for path in FOLDER.glob("*.pt"):
        deflate(path)
    legacy = filled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()))
    x = image(1, 3, 5, 5)
    with torch.no_grad():
        torch.save({"x": x, "y": legacy(x)}, FOLDER / "legacy.y.pt")
    # The form before torch 1.6 has the source of each class, and where on the machine it was: that is left out.
    source_of = torch.serialization.get_source_lines_and_file
    torch.serialization.get_source_lines_and_file = lambda of: (*source_of(of)[:2], f"{of.__module__}.py")
    torch.save(legacy, FOLDER / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.serialization.get_source_lines_and_file = source_of


if __name__ == "__main__":
    main()
