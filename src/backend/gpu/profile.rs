//! Profiles: every dispatch of a plan, timed by the device's own clock.

use super::dispatch::Dispatch;
use super::plan::Plan;
use crate::backend::profile::StepProfile;
use crate::device::stopwatch::Stopwatch;
use crate::error::Result;
use crate::tensor::Tensor;

/// What a profile calls a shader: its name, and the tile and the split where it has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Label {
    pub(super) name: &'static str,
    tile: Option<[u32; 2]>,
    split: bool,
}

impl Label {
    pub(super) fn new(dispatch: &Dispatch) -> Self {
        let number =
            |wanted: &str| dispatch.constants.iter().find(|(name, _)| *name == wanted).map(|&(_, value)| value as u32);
        Self {
            name: dispatch.shader.name,
            tile: number("TM").zip(number("TN")).map(|(rows, columns)| [rows, columns]),
            split: number("SPLIT").is_some_and(|split| split != 0),
        }
    }

    fn text(self) -> String {
        let mut text = self.name.to_owned();
        if let Some([rows, columns]) = self.tile {
            text += &format!(" {rows}x{columns}");
        }
        if self.split {
            text += " split";
        }
        text
    }
}

impl Plan {
    /// Runs the plan so often, at least once, and times its dispatches.
    ///
    /// # Errors
    /// Those of [`start`](Self::start); [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the device has
    /// no timestamps.
    pub(crate) fn profile(&mut self, inputs: &[Tensor], runs: usize) -> Result<Vec<StepProfile>> {
        let gpu = std::sync::Arc::clone(&self.doors.gpu);
        let runs = runs.max(1);
        let watch = Stopwatch::new(&gpu, self.calls.len())?;
        let mut dispatches = vec![Vec::with_capacity(runs); self.calls.len()];
        let mut steps = vec![Vec::with_capacity(runs); self.steps.len()];
        for _ in 0..runs {
            let running = self.start_timed(inputs, Some(&watch))?;
            let submission = running.submission().clone();
            running.wait()?;
            let mut sums = vec![0.0; self.steps.len()];
            for (i, ms) in watch.read(&gpu, &submission)?.into_iter().enumerate() {
                dispatches[i].push(ms);
                sums[self.calls[i].step] += ms;
            }
            steps.iter_mut().zip(sums).for_each(|(times, sum): (&mut Vec<f64>, f64)| times.push(sum));
        }
        let mut profiles = self.steps.clone();
        for (profile, times) in profiles.iter_mut().zip(&mut steps) {
            profile.set_times(times);
        }
        for (call, times) in self.calls.iter().zip(&mut dispatches) {
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            profiles[call.step].dispatches.push((call.shader.text(), median));
        }
        // A step of no elements has no dispatch.
        profiles.retain(|profile| !profile.dispatches.is_empty());
        Ok(profiles)
    }
}
