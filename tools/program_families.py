"""Modules for `tools/programs.py`: of each family of operations one, with the cases that are easily got wrong."""
import torch
from torch import nn
from torch.nn import functional as F


class Indices(nn.Module):
    """Places that depend on the input, negative ones too, along one dimension and several."""

    def forward(self, x, i, j):
        y = x.clone()
        y[i, j] = 5.0
        z = x.clone()
        z[i] += 1
        front = i.abs()
        mask = torch.tensor([True, False, False, True])
        y[:, :, mask] *= 3
        return {
            "mask": x[:, [4, 0]][..., mask], "both": x[mask[:, None].expand(4, 5)], "mixed": x[i][:, 1:5, mask],
            "one": x[i], "two": x[i, j], "apart": x[i, :, j], "write": y, "row": z,
            "put": x.index_put((i, j), torch.ones(3, 4), accumulate=True),
            "gather": x.gather(0, front.view(3, 1, 1).expand(3, 2, 4)), "take": x.take(j),
            "along": torch.take_along_dim(x, front.view(3, 1, 1), 0),
            "reduce": x.scatter_reduce(0, front.view(3, 1, 1).expand(3, 5, 4), x[:3] * 2, "amax", include_self=False),
            "mean": x.scatter_reduce(0, front.view(3, 1, 1).expand(3, 5, 4), x[:3] * 2, "mean"),
            "add": x.scatter_add(0, front.view(3, 1, 1).expand(3, 5, 4), torch.where(x[:3] > 1, torch.inf, x[:3])),
        }


class Orders(nn.Module):
    """What depends on the order of elements; with NaN and infinities."""

    def forward(self, x, n):
        return {
            "sort": x.sort(1), "nan": x.isnan(), "argmax": x.argmax(1), "max": x.max(0), "scalar": x[0, 0].max(0),
            "kth": n.kthvalue(2, 0), "median": (x.median(1).values, x.median(), n.median(0).values), "msort": x.msort(),
            "turned": (x.rot90(1, (0, 1)), x.rot90(-1, (0, 1)), x.fliplr(), x.flipud()),
            "running": (n.cumprod(0), *n.cummax(1), *n.cummin(0), x.cumsum(1)), "log": x[2:].logcumsumexp(1),
            "search": torch.searchsorted(n.float().sort(1).values, x[:3].nan_to_num(0, 9, -9).contiguous(), right=True),
            "none": (x[:0].any(0), x[:0].all(0), x[:0].prod(0), x[:0].sum(0)),
        }


class Functions(nn.Module):
    """Functions that kernels do not have, near 0 and far from it."""

    def forward(self, x, y):
        names = "sinh asinh atan log1p expm1 sinc frac deg2rad erfc celu hardshrink softshrink sgn".split()
        one = {name: getattr(torch, name, getattr(F, name, None))(x.clamp(min=-0.9) if name == "log1p" else x)
               for name in names}
        unit = x.tanh() * 0.9
        return one | {
            "asin": unit.asin(), "acos": unit.acos(), "atanh": unit.atanh(), "acosh": (x.abs() + 1).acosh(),
            "atan2": torch.atan2(x, y), "hypot": torch.hypot(x, y), "fmax": torch.fmax(x, y),
            "heaviside": torch.heaviside(x, y), "copysign": torch.copysign(y, x), "xlogy": torch.xlogy(x, y.abs()),
            "round": x.round(decimals=1), "logit": unit.abs().logit(1e-3), "rest": 3 % (y.abs() + 1),
            "numbers": (x / 0).nan_to_num(1.0, 2.0, 3.0), "norms": torch.linalg.vector_norm(x, 3, dim=0),
            "cross": torch.linalg.cross(x[:3].T, y[:3].T), "integers": (x * 3).long() @ (y * 3).long().T,
        }


class Volumes(nn.Module):
    """Volumes sampled at places, places by matrices, columns folded, averages with a divisor."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool3d(2, divisor_override=3)

    def forward(self, x, grid, theta):
        image = x[:, :, 0]
        turned = F.affine_grid(theta, (2, 2, 3, 4), align_corners=False)
        return {
            "linear": F.grid_sample(x, grid, align_corners=False),
            "nearest": F.grid_sample(x, grid, "nearest", "border", align_corners=True),
            "reflected": F.grid_sample(x, grid, "bilinear", "reflection", align_corners=True),
            "affine": F.grid_sample(image, turned, align_corners=False),
            "fold": F.fold(F.unfold(image, (2, 3), padding=1, stride=2), (4, 5), (2, 3), padding=1, stride=2),
            "pool": self.pool(x), "exact": F.interpolate(x, size=(2, 5, 3), mode="nearest-exact"),
        }


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(4, 5), nn.GRUCell(4, 5, bias=False)
        self.rnn = nn.RNNCell(4, 5, nonlinearity="relu")

    def forward(self, x, h):
        return self.lstm(x, (h, h * 2)), self.gru(x, h), self.rnn(x)


class Autocast(nn.Module):
    """Blocks that choose the width of floats, and one that does not."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 8)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = F.relu(self.linear(x)) + 1
            with torch.autocast("cpu", enabled=False):
                z = self.linear(x * 0.5)
        return y.float(), z


class Narrow(nn.Module):
    """A network of 16-bit floats, which takes and gives them: a convolution, norms, attention, promotion."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.qkv, self.layer_norm = nn.Linear(8, 24), nn.LayerNorm(8)

    def forward(self, x):
        y = F.relu(self.norm(self.conv(x)))
        tokens = self.layer_norm(y.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(tokens).chunk(3, -1)
        tokens = tokens + F.scaled_dot_product_attention(q, k, v)
        return {"tokens": tokens, "mean": tokens.mean(1), "wide": tokens.float().sum()}


class Antialias(nn.Module):
    def forward(self, x):
        return F.interpolate(x, size=3, mode="bilinear", antialias=True)


class Numbers(nn.Module):
    """Integers that grow in between, classes, and Python numbers as outputs."""

    def forward(self, a, x):
        flat = a.reshape(-1)
        return {
            "product": (a * a) % 1000, "sum": flat.sum() % 7, "running": a.cumsum(1) % 5, "power": (a ** 3) % 11,
            "cast": (x * 1000).long() % 13, "matrix": (a @ a.T) % 17, "row": x[(flat[:1] * flat[:1]) % 2],
            "added": torch.zeros(4, dtype=torch.long).index_add(0, torch.arange(2), a[:, 0]) % 3,
            "classes": F.one_hot(a[0] % 5, 5), "numbers": (True, 3.0, 7),
        }


class Large(nn.Module):
    """Places in a tensor of more than 2^24 elements."""

    def forward(self, v, w, i):
        table = v[:, None] + w
        return {"rows": table.gather(0, i[None].expand(1, 4100)), "columns": table.gather(1, i[:, None].expand(4100, 1)[:3])}


class Pairs(nn.Module):
    """A look-up by two indices in a tensor of more than 2^24 elements."""

    def forward(self, v, w, i):
        return (v[:, None] + w)[i, i]


class Classes(nn.Module):
    def forward(self, a):
        return F.one_hot(a, 5)


class Spreads(nn.Module):
    """Sums of exponentials where a row has nothing but infinities."""

    def forward(self, x):
        return x.logsumexp(1), x.logsumexp((0, 1)), x.logsumexp(0, keepdim=True)


class Double(nn.Module):
    """A size that is twice another one."""

    def forward(self, x, y):
        return x + torch.cat([y, y])


class Divisions(nn.Module):
    """Quotients and rests of large integers, of floats much larger than the divisor, and by infinities."""

    def forward(self, a, b, x, y):
        return {
            "integers": (a % b, a // b, torch.fmod(a, b), torch.div(a, b, rounding_mode="trunc"), a % -1000, a // 255),
            "rests": (torch.remainder(x, y), torch.fmod(x, y), torch.remainder(x, 0.1)),
            "shifts": ((a % 50) << (b % 7), (a % 999) >> (b % 5)),
            "floors": (x // y)[:6], "cut": (torch.div(x, y, rounding_mode="trunc"), torch.div(x / x, 0.1, rounding_mode="trunc")),
        }


class Layouts(nn.Module):
    """A copy is made where the layout changes, and only there."""

    def forward(self, x):
        y = x * 1
        y.contiguous(memory_format=torch.channels_last).add_(5)
        y.to(memory_format=torch.channels_last).mul_(7)
        z = x * 1
        z.contiguous().add_(1)
        z.to(torch.float32).mul_(2)
        tall = x.reshape(8, 3) * 1
        wide = x.reshape(3, 8) * 1
        places = torch.triu_indices(3, 5, 1), torch.tril_indices(3, 5, -1)
        return y, z, tall.fill_diagonal_(9, wrap=True), wide.fill_diagonal_(7), (x.view(6, 4) * 1).fill_diagonal_(5), places


class Edges(nn.Module):
    """Values that are not finite where others are summed, and tensors of nothing."""

    def __init__(self):
        super().__init__()
        self.prelu = nn.PReLU()

    def forward(self, x, i):
        zeros = torch.zeros(4, 3)
        return {
            "added": zeros.index_add(0, i, x), "put": zeros.index_put((i,), x, accumulate=True),
            "median": x.median(1), "flags": (x > 0).to(torch.uint8).any(1), "short": torch.einsum("ij,kj", zeros + 1, x.nan_to_num()),
            "none": torch.cat([x[0, :0], x[1, :0]]), "prelu": self.prelu(x), "threshold": F.threshold(x, 0.7, 9.0),
            "asinh": x.asinh(), "acosh": (x.abs() * 1e30 + 1).acosh(), "hypot": torch.hypot(x * 1e30, x),
            "atan2": torch.atan2(x, x.T), "axes": torch.atan2(x, x.nan_to_num(0, 1, 1) * -0.0), "pow": x ** torch.tensor(2.5),
        }


class Scales(nn.Module):
    """Floats that follow from sizes."""

    def forward(self, x):
        return {
            "up": F.interpolate(x, scale_factor=2.3, mode="bicubic"),
            "again": F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
            "root": x / x.shape[2] ** 0.5 + x.shape[3] ** -0.5 * (x.shape[2] / 3 - 1.5),
        }


class Refused(nn.Module):
    """Operations that are supported, used in ways that are not."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(4))

    def forward(self, x):
        self.count.add_(1)
        values, places = F.max_pool2d(x, 2, return_indices=True)
        return x[x > 0].sum() + x[x < -1].sum(), values, places + 1, x + self.count


class RefusedMore(nn.Module):
    """An operation that is not supported, and a use of another one."""

    def forward(self, x):
        return torch.linalg.inv(x), x[x > 0].sum()
