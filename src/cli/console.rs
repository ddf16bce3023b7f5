//! Standard error: what the command says besides its answer.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How much is said on standard error.
#[derive(Clone, Copy)]
pub(crate) struct Console {
    quiet: bool,
    verbose: bool,
}

impl Console {
    pub(crate) fn new(quiet: bool, verbose: bool) -> Self {
        Self { quiet, verbose }
    }

    /// Says one line, unless `--quiet`.
    pub(crate) fn say(self, line: impl Display) {
        if !self.quiet {
            write_line(line);
        }
    }

    /// Whether `--verbose` asks for more.
    pub(crate) fn is_verbose(self) -> bool {
        self.verbose
    }

    /// Says what went wrong, even with `--quiet`.
    pub(crate) fn error(self, error: impl Display) {
        write_line(format_args!("error: {error}"));
    }

    /// A line that is overwritten as the work goes on; shown on a terminal only, and not with `--quiet`.
    pub(crate) fn progress(self) -> Progress {
        Progress { enabled: self.shows_progress(), shown: None }
    }

    /// A bar for a number of bytes, shown as [`progress`](Self::progress) is.
    pub(crate) fn bar(self, what: &'static str) -> ProgressBar {
        let target = if self.shows_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {decimal_bytes} of {decimal_total_bytes}, {eta}");
        ProgressBar::with_draw_target(None, target)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
            .with_message(what)
    }

    fn shows_progress(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }
}

/// Nobody can be told that standard error is closed, so that is no error.
fn write_line(line: impl Display) {
    writeln!(io::stderr().lock(), "{line}").ok();
}

/// See [`Console::progress`]. The line goes away with the value.
pub(crate) struct Progress {
    enabled: bool,
    shown: Option<Instant>,
}

impl Progress {
    /// Shows `line` instead of the last one, at most ten times a second.
    pub(crate) fn show(&mut self, line: impl Display) {
        let due = self.shown.is_none_or(|last| last.elapsed() > Duration::from_millis(100));
        if self.enabled && due {
            self.shown = Some(Instant::now());
            let mut stderr = io::stderr().lock();
            write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()).ok();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.enabled && self.shown.is_some() {
            let mut stderr = io::stderr().lock();
            write!(stderr, "\r\x1b[K").and_then(|()| stderr.flush()).ok();
        }
    }
}
