//! The members of a tar archive, each up to a length that the input gives, so that the headers are right.
#![no_main]

mod read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((lengths, mut rest)) = bytes.split_first_chunk::<4>() else { return };
    let mut archive = member("sys_info", b"\x80\x02}.");
    for (name, length) in ["pickle", "tensors", "storages"].into_iter().zip(lengths) {
        let (data, after) = rest.split_at((usize::from(*length) * 4).min(rest.len()));
        archive.extend(member(name, data));
        rest = after;
    }
    archive.extend([0; 1024]);
    read::read(archive);
});

fn member(name: &str, data: &[u8]) -> Vec<u8> {
    let mut header = vec![0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend(data);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}
