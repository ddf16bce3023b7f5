//! The nets of `tools/mission.py`.

use sconce::nn::{self, Module};
use sconce::{Graph, Result, Var};

pub(crate) struct Net {
    pub(crate) conv1: nn::Conv2d,
    pub(crate) bn1: nn::BatchNorm2d,
    pub(crate) pool: nn::MaxPool2d,
    pub(crate) dropout: nn::Dropout,
    pub(crate) fc1: nn::Linear,
    pub(crate) fc2: nn::Linear,
}
sconce::module!(Net { conv1, bn1, pool, dropout, fc1, fc2 });

impl Net {
    pub(crate) fn new(outputs: usize) -> Self {
        Self {
            conv1: nn::Conv2d::new(1, 4, 3).padding(1),
            bn1: nn::BatchNorm2d::new(4),
            pool: nn::MaxPool2d::new(2),
            dropout: nn::Dropout::new(0.5),
            fc1: nn::Linear::new(36, 8),
            fc2: nn::Linear::new(8, outputs),
        }
    }
}

impl Module for Net {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.conv1.forward(g, x)?;
        let x = self.bn1.forward(g, x)?;
        let x = g.relu(x)?;
        let x = self.pool.forward(g, x)?;
        let x = g.flatten(x, 1, -1)?;
        let x = self.fc1.forward(g, x)?;
        let x = g.relu(x)?;
        let x = self.dropout.forward(g, x)?;
        self.fc2.forward(g, x)
    }
}

/// A net whose tree is printed.
pub(crate) struct Printed {
    pub(crate) features: nn::Sequential,
    pub(crate) fc3: nn::Conv2d,
    pub(crate) head: nn::Linear,
}
sconce::module!(Printed { features, fc3, head });

impl Printed {
    pub(crate) fn new() -> Self {
        let features = nn::Sequential::new()
            .append(nn::Conv2d::new(1, 2, 3).stride(2))
            .append(nn::BatchNorm2d::new(2))
            .append(nn::ReLU::new().inplace(true));
        Self { features, fc3: nn::Conv2d::new(2, 4, 2), head: nn::Linear::new(4, 2).bias(false) }
    }
}

impl Module for Printed {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        self.features.forward(g, x)
    }
}

/// Normalizes with the statistics of the batch, also in eval mode.
pub(crate) struct BatchStatistics {
    pub(crate) conv: nn::Conv2d,
    pub(crate) norm: nn::BatchNorm2d,
    pub(crate) dropout: nn::Dropout,
}
sconce::module!(BatchStatistics { conv, norm, dropout });

impl BatchStatistics {
    pub(crate) fn new() -> Self {
        let norm = nn::BatchNorm2d::new(2).track_running_stats(false);
        Self { conv: nn::Conv2d::new(1, 2, 3), norm, dropout: nn::Dropout::new(0.5) }
    }
}

impl Module for BatchStatistics {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.conv.forward(g, x)?;
        let x = self.norm.forward(g, x)?;
        self.dropout.forward(g, x)
    }
}

/// Plain layers, which the files have parametrized.
pub(crate) struct Normed {
    pub(crate) conv: nn::Conv2d,
    pub(crate) square: nn::Conv2d,
    pub(crate) fc: nn::Linear,
}
sconce::module!(Normed { conv, square, fc });

impl Normed {
    pub(crate) fn new() -> Self {
        let (conv, square) = (nn::Conv2d::new(1, 4, 3).padding(1), nn::Conv2d::new(4, 4, 1));
        Self { conv, square, fc: nn::Linear::new(144, 3) }
    }
}

impl Module for Normed {
    fn forward(&self, g: &mut Graph, x: Var) -> Result<Var> {
        let x = self.conv.forward(g, x)?;
        let x = g.relu(x)?;
        let x = self.square.forward(g, x)?;
        let x = g.relu(x)?;
        let x = g.flatten(x, 1, -1)?;
        self.fc.forward(g, x)
    }
}
