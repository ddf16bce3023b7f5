//! Plain pickles: what Python's own `pickle.dump` writes, once or several times into one file. Tensors in them are
//! legacy streams inside strings of bytes.

use std::sync::Arc;

use super::pickle::{Embedded, Inside, Outside, unpickle_at};
use super::source::Source;
use super::value::Value;
use super::{Storage, sniff};
use crate::error::{Error, Result};

/// Reads all pickles of a file.
pub(super) fn open(source: &Arc<Source>) -> Result<Vec<Value>> {
    let mut saves = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let (value, end) = pickle(source, at).map_err(|error| match saves.len() {
            // Protocols 0 and 1 have no sign of their own: what does not read as a pickle is none.
            0 if source[0] != PROTO => sniff::unknown(source),
            0 => error,
            _ => error.context(format_args!("{} bytes follow a pickle and are not another one", source.len() - at)),
        })?;
        saves.push(value);
        at = end;
    }
    Ok(saves)
}

/// The instruction that starts a pickle of protocol 2 or later.
const PROTO: u8 = 0x80;

fn pickle(source: &Arc<Source>, start: usize) -> Result<(Value, usize)> {
    let pickle = unpickle_at(source, start, Outside::Nothing)?;
    let end = pickle.end();
    let mut opened: Vec<Option<Arc<Storage>>> = vec![None; pickle.storages().len()];
    let value = pickle.into_value(&mut |index, id, _| {
        let storage = match id.inside.as_deref() {
            Some(Inside::Pickle(Embedded::At(range))) => opened[index]
                .get_or_insert_with(|| Storage::range(Arc::clone(source), range.clone(), Arc::clone(&id.location))),
            Some(Inside::Pickle(Embedded::Copied(storage))) => storage,
            _ => return Err(Error::invalid("a storage whose bytes are not in the file")),
        };
        Ok(Arc::clone(storage))
    })?;
    Ok((value, end))
}
