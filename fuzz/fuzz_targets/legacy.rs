//! What follows the magic number and the version of a legacy stream.
#![no_main]

mod read;

const START: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

libfuzzer_sys::fuzz_target!(|rest: &[u8]| read::read([START, rest].concat()));
