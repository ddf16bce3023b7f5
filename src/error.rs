//! The crate's one error type.

use std::fmt;

/// What kind of trouble an [`Error`] is. New kinds may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system failed to open, read, map or write a file.
    Io,
    /// A file or a value is not what its format demands: truncated, inconsistent, hostile.
    Invalid,
    /// Well formed, but this crate cannot do it.
    Unsupported,
    /// The crate could do it, but this build lacks the feature.
    Disabled,
    /// Shapes, dtypes or arguments that do not fit each other.
    Shape,
    /// Names or shapes of a state dict that do not fit a model.
    StateDict,
    /// A device that is not there, or that failed.
    Device,
    /// A name, a key or an option that does not exist.
    NotFound,
}

/// One error: what went wrong, in one line, and often a `help:` line that says what to do.
///
/// The message is lower case, has names in backticks and says what was expected, then what was found.
///
/// ```
/// let error = sconce::load("no-such-file.pth").unwrap_err();
/// assert_eq!(error.kind(), sconce::ErrorKind::Io);
/// assert!(error.to_string().starts_with("`no-such-file.pth`"));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    help: Option<String>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), help: None }))
    }

    pub(crate) fn io(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Io, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape, message)
    }

    pub(crate) fn device(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Device, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Adds the line that says what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Puts `context: ` before the message, as in a file's name.
    pub(crate) fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// What went wrong, without the line that says what to do.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// What kind of trouble this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}
