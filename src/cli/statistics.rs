//! What is said of a series of times.

/// Times in milliseconds, summed up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Statistics {
    pub(crate) median: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) min: f64,
}

impl Statistics {
    /// `None` when there are no times.
    pub(crate) fn new(mut times: Vec<f64>) -> Option<Self> {
        if times.is_empty() {
            return None;
        }
        times.sort_by(f64::total_cmp);
        let median = percentile(&times, 0.5);
        Some(Self {
            median,
            mean: times.iter().sum::<f64>() / times.len() as f64,
            p50: median,
            p90: percentile(&times, 0.9),
            p99: percentile(&times, 0.99),
            min: times[0],
        })
    }
}

/// The value below which `part` of the sorted values lie, interpolated linearly as `numpy.percentile` does.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let at = part * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up_as_numpy_does() {
        // numpy.percentile([4, 1, 3, 2, 10], [50, 90, 99])
        let statistics = Statistics::new(vec![4.0, 1.0, 3.0, 2.0, 10.0]).unwrap();
        assert_eq!((statistics.median, statistics.p50, statistics.mean, statistics.min), (3.0, 3.0, 4.0, 1.0));
        assert!((statistics.p90 - 7.6).abs() < 1e-12 && (statistics.p99 - 9.76).abs() < 1e-12, "{statistics:?}");
        let pair = Statistics::new(vec![2.0, 1.0]).unwrap();
        assert_eq!((pair.median, pair.min), (1.5, 1.0));
        let one = Statistics::new(vec![2.0]).unwrap();
        assert_eq!((one.median, one.p99, one.min), (2.0, 2.0, 2.0));
        assert_eq!(Statistics::new(vec![]), None);
    }
}
