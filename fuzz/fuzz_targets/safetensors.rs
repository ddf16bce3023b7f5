//! The header of a safetensors file, with its length put before it and 64 bytes of data behind.
#![no_main]

mod read;

libfuzzer_sys::fuzz_target!(|header: &[u8]| {
    read::read([&(header.len() as u64).to_le_bytes(), header, &[1; 64]].concat());
});
