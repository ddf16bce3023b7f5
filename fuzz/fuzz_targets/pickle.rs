//! The pickle of an archive with one storage, so that mutations change the pickle and not the archive's headers.
#![no_main]

mod read;
mod stored;

const STORAGE: [u8; 64] = [7; 64];

libfuzzer_sys::fuzz_target!(|pickle: &[u8]| {
    read::read(stored::archive(&[("a/data.pkl", pickle), ("a/data/0", &STORAGE), ("a/version", b"3\n")]));
});
