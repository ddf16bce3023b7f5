//! Times resnet18 on burn's wgpu backend: `burn-peer [RUNS] [ADAPTER KIND: cpu, gpu]`. Prints one JSON line.
//!
//! The weights are burn's own random ones: what is timed does not depend on them. The input is on the device, and
//! every run ends with its output read by the host, as a run of sconce does.

use std::time::Instant;

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, DeviceKind, Distribution, Tensor};

struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Self {
        let pad = kernel / 2;
        let conv = Conv2dConfig::new(channels, [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_bias(false)
            .init(device);
        Self { conv, norm: BatchNormConfig::new(channels[1]).init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

struct Block {
    first: ConvNorm,
    second: ConvNorm,
    down: Option<ConvNorm>,
}

impl Block {
    fn new(channels: [usize; 2], stride: usize, device: &Device) -> Self {
        let down = (stride > 1 || channels[0] != channels[1]).then(|| ConvNorm::new(channels, 1, stride, device));
        Self {
            first: ConvNorm::new(channels, 3, stride, device),
            second: ConvNorm::new([channels[1], channels[1]], 3, 1, device),
            down,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.second.forward(relu(self.first.forward(x.clone())));
        let x = match &self.down {
            Some(down) => down.forward(x),
            None => x,
        };
        relu(y + x)
    }
}

struct ResNet18 {
    stem: ConvNorm,
    pool: MaxPool2d,
    blocks: Vec<Block>,
    average: AdaptiveAvgPool2d,
    head: Linear,
}

impl ResNet18 {
    fn new(device: &Device) -> Self {
        let stages = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)];
        let blocks = stages.into_iter().flat_map(|(from, to, stride)| {
            [Block::new([from, to], stride, device), Block::new([to, to], 1, device)]
        });
        Self {
            stem: ConvNorm::new([3, 64], 7, 2, device),
            pool: MaxPool2dConfig::new([3, 3])
                .with_strides([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(),
            blocks: blocks.collect(),
            average: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            head: LinearConfig::new(512, 1000).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.stem.forward(x)));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.head.forward(self.average.forward(x).flatten(1, 3))
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let runs: usize = args.next().map_or(10, |runs| runs.parse().expect("a number of runs"));
    let kind = match args.next().as_deref() {
        None | Some("cpu") => DeviceKind::Cpu,
        Some("gpu") => DeviceKind::DefaultDevice,
        Some(other) => panic!("`{other}`: `cpu` (a software adapter) or `gpu` is expected"),
    };
    let device = Device::wgpu(kind);
    let net = ResNet18::new(&device);
    let x = Tensor::<4>::random([1, 3, 224, 224], Distribution::Default, &device);
    let run = || {
        let start = Instant::now();
        let y = net.forward(x.clone()).into_data();
        assert_eq!(y.shape().as_slice(), [1, 1000]);
        start.elapsed().as_secs_f64() * 1e3
    };
    // The first runs compile and tune the kernels.
    let first = run();
    (0..2).for_each(|_| {
        run();
    });
    let mut times: Vec<f64> = (0..runs.max(1)).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    let (median, least) = (times[times.len() / 2], times[0]);
    println!(
        r#"{{"peer": "burn-wgpu 0.22.1", "model": "resnet18", "batch": 1, "runs": {}, "median_ms": {median:.2}, "min_ms": {least:.2}, "first_ms": {first:.0}}}"#,
        times.len()
    );
}
