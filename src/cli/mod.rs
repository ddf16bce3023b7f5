//! The `sconce` command: opens model files, runs and times them. It uses the library's public API only.
//!
//! Standard output is the answer, standard error the talk. The exit status is 0 when done, 1 when a check failed, 2 for
//! a usage, file, model or device error; a reader that closes the pipe early is no error.

mod bench;
mod compare;
mod console;
mod convert;
mod devices;
mod diff;
mod image;
mod inspect;
mod json;
mod labels;
mod memory;
mod model;
mod numbers;
mod profile;
mod run;
mod statistics;
mod text;

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::{Parser, Subcommand};
use console::{Console, Progress};

/// Opens the files PyTorch writes and runs the models in them, on any GPU or on the CPU.
#[derive(Parser)]
#[command(name = "sconce", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    global: Global,
}

/// The options of every subcommand.
#[derive(clap::Args)]
struct Global {
    /// Where models run: cpu, gpu, gpu:N, cuda, cuda:N, mps, a part of an adapter's name, or auto: the first GPU,
    /// else the CPU. Several with commas between them: `run` goes on with the next one when one fails, `bench`
    /// measures each
    #[arg(long, global = true, default_value = "auto", value_name = "NAME", help_heading = "Global options")]
    device: String,

    /// The threads of the CPU device [default: as many as there are cores]
    #[arg(long, global = true, value_name = "N", value_parser = parse_threads, help_heading = "Global options")]
    threads: Option<usize>,

    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    quiet: bool,

    /// Say more: what the plan of a model is made of
    #[arg(short, long, global = true, help_heading = "Global options")]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is in a file
    Inspect(inspect::Args),
    /// Compare what is in two files
    Diff(diff::Args),
    /// Write a file in another format, dtype or with other names
    Convert(convert::Args),
    /// Run a model once: print, save or check what it gives
    Run(run::Args),
    /// Time opening, compiling and running models
    Bench(bench::Args),
    /// List the devices that models can run on
    Devices(devices::Args),
}

/// What a subcommand is given besides its own arguments.
struct Context<'a> {
    global: &'a Global,
    /// Standard output: the answer.
    out: &'a mut dyn Write,
    /// Standard error: the talk.
    console: Console,
}

impl Context<'_> {
    /// Opens `name` with the number of threads that was asked for, and says which device it is.
    fn open_device(&self, name: &str) -> Result<sconce::Device> {
        let device = match (sconce::Device::open(name)?, self.global.threads) {
            (device, Some(threads)) if device.is_cpu() => sconce::Device::cpu_with_threads(threads),
            (device, _) => device,
        };
        self.console.say(format_args!("device: {device}"));
        let (console, progress) = (self.console, Mutex::new(None));
        device.on_tuning(move |done, all| {
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            let line: &mut Progress = progress.get_or_insert_with(|| console.progress());
            line.show(format_args!("tuning: {done} of {all} steps"));
            if done == all {
                // The line goes away.
                *progress = None;
            }
        });
        Ok(device)
    }
}

/// How a command that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    CheckFailed,
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// The library's error, and what to put before it: nothing, or a file's name.
    Sconce { context: String, error: sconce::Error },
    /// The command's own: what is wrong and, when there is something to do, what.
    Own { message: String, help: Option<String> },
    /// Standard output could not be written.
    Output(io::Error),
    /// A process of ours failed and has said why.
    Said,
}

type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self::Own { message: message.into(), help: None }
    }

    /// The library's error about something that it does not know the name of.
    fn about(context: impl Into<String>, error: sconce::Error) -> Self {
        Self::Sconce { context: context.into(), error }
    }

    fn help(self, text: impl Into<String>) -> Self {
        match self {
            Self::Own { message, .. } => Self::Own { message, help: Some(text.into()) },
            other => other,
        }
    }
}

impl From<sconce::Error> for Failure {
    fn from(error: sconce::Error) -> Self {
        Self::Sconce { context: String::new(), error }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sconce { context, error } if context.is_empty() => error.fmt(f),
            Self::Sconce { context, error } => write!(f, "{context}: {error}"),
            Self::Own { message, help: None } => f.write_str(message),
            Self::Own { message, help: Some(help) } => write!(f, "{message}\n  help: {help}"),
            Self::Output(error) => write!(f, "standard output: {error}"),
            Self::Said => Ok(()),
        }
    }
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with status 0. Where they cannot be written there is nobody to tell.
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let console = Console::new(cli.global.quiet, cli.global.verbose);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut context = Context { global: &cli.global, out: &mut out, console };
    let result = match &cli.command {
        Command::Inspect(args) => inspect::run(args, &mut context),
        Command::Diff(args) => diff::run(args, &mut context),
        Command::Convert(args) => convert::run(args, &mut context),
        Command::Run(args) => run::run(args, &mut context),
        Command::Bench(args) => bench::run(args, &mut context),
        Command::Devices(args) => devices::run(args, &mut context),
    };
    let flushed = out.flush();
    match result.and_then(|verdict| Ok(flushed.map(|()| verdict)?)) {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::CheckFailed) => ExitCode::from(1),
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Said) => ExitCode::from(2),
        Err(failure) => {
            console.error(&failure);
            ExitCode::from(2)
        }
    }
}

/// What `--verbose` says of a plan.
fn plan_line(plan: sconce::PlanInfo) -> String {
    let mb = |bytes: usize| bytes as f64 / 1e6;
    format!("plan: {} steps, arena {:.1} MB, weights {:.1} MB", plan.steps, mb(plan.arena_bytes), mb(plan.weight_bytes))
}

/// What `--verbose` says of the kernels of a run.
fn kernels_line(kernels: &[(String, usize)], precision: sconce::Precision) -> String {
    let kernels: Vec<String> = kernels.iter().map(|(name, count)| format!("{name} {count}")).collect();
    format!("kernels in {precision}: {}", kernels.join(", "))
}

fn parse_precision(text: &str) -> Result<sconce::Precision, String> {
    text.parse().map_err(|_| "f32, fast or f16 is expected".to_owned())
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("a number from 1 to 1024 is expected".to_owned()),
    }
}

/// Reads a number that is finite and not negative.
fn parse_tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("a number that is not negative is expected".to_owned()),
    }
}

/// Reads a number greater than zero.
fn parse_positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(value) if value > 0 => Ok(value),
        _ => Err("a whole number greater than 0 is expected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(parse_tolerance("1e-4").unwrap(), 1e-4);
        for wrong in ["-1", "nan", "inf", "", "x"] {
            assert!(parse_tolerance(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_positive("3").unwrap(), 3);
        for wrong in ["0", "-1", "1.5", ""] {
            assert!(parse_positive(wrong).is_err(), "{wrong}");
        }
        assert!(parse_threads("0").is_err() && parse_threads("1025").is_err());
    }

    #[test]
    fn failures_have_one_line_and_a_help_line() {
        let failure = Failure::new("`x` is not there").help("look elsewhere");
        assert_eq!(failure.to_string(), "`x` is not there\n  help: look elsewhere");
        let error = sconce::Tensor::from_npy(b"").unwrap_err();
        let text = Failure::about("`x.npy`", error).to_string();
        assert!(text.starts_with("`x.npy`: truncated"), "{text}");
    }
}
