//! Names of classes.

use std::path::Path;

use super::{Failure, Result};

/// Reads a file with one class name a line, in the order of the classes.
pub(crate) fn read(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())).help("one class name a line"))?;
    let labels: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    if labels.is_empty() {
        return Err(Failure::new(format!("`{}` is empty, one class name a line is expected", path.display())));
    }
    Ok(labels)
}
