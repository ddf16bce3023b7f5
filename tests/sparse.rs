//! Opening reads no tensor data: a file that is one hole of 8 GiB opens at once and takes no memory.
#![cfg(unix)]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

const HOLE: u64 = 8 << 30;

/// A checkpoint of one uint8 tensor of 8 GiB, of which only the last byte is written. Its directory is zip64.
fn write_sparse(file: &mut File) {
    let mut pickle = b"\x80\x02}X\x06\0\0\0weightctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage".to_vec();
    pickle.extend(b"ctorch\nByteStorage\nX\x01\0\0\x000X\x06\0\0\0cuda:0\x8a\x05\0\0\0\0\x02tQK\0");
    pickle.extend(b"\x8a\x05\0\0\0\0\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.");
    let entries: [(&[u8], &[u8], u64); 2] = [(b"a/data.pkl", &pickle, pickle.len() as u64), (b"a/data/0", b"", HOLE)];
    let mut central = Vec::new();
    for (name, data, size) in entries {
        let header = file.stream_position().unwrap();
        let mut local = b"PK\x03\x04\0\0\x08\0".to_vec();
        local.extend([0; 18]);
        local.extend((name.len() as u16).to_le_bytes());
        local.extend([0; 2]);
        local.extend(name);
        file.write_all(&local).unwrap();
        file.write_all(data).unwrap();
        if data.is_empty() {
            file.seek(SeekFrom::Current(size as i64 - 1)).unwrap();
            file.write_all(&[42]).unwrap();
        }
        central.extend(b"PK\x01\x02\0\0\0\0\x08\0");
        central.extend([0; 10]);
        central.extend([0xff; 8]);
        central.extend((name.len() as u16).to_le_bytes());
        central.extend(28u16.to_le_bytes());
        central.extend([0; 10]);
        central.extend([0xff; 4]);
        central.extend(name);
        central.extend([1, 0, 24, 0]);
        [size, size, header].iter().for_each(|number| central.extend(number.to_le_bytes()));
    }
    let start = file.stream_position().unwrap();
    let mut end = b"PK\x06\x06".to_vec();
    end.extend(44u64.to_le_bytes());
    end.extend([0; 12]);
    [2, 2, central.len() as u64, start].iter().for_each(|number| end.extend(number.to_le_bytes()));
    end.extend(b"PK\x06\x07\0\0\0\0");
    end.extend((start + central.len() as u64).to_le_bytes());
    end.extend([1, 0, 0, 0]);
    end.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    file.write_all(&central).unwrap();
    file.write_all(&end).unwrap();
}

/// The process's resident memory in bytes, where the system tells.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

#[test]
fn opening_reads_no_tensor_data() {
    let path = std::env::temp_dir().join(format!("sconce-sparse-{}.pt", std::process::id()));
    let mut file = File::create(&path).unwrap();
    write_sparse(&mut file);
    let before = resident();
    let start = Instant::now();
    let checkpoint = sconce::load(&path);
    let time = start.elapsed();
    let after = resident();
    std::fs::remove_file(&path).unwrap();
    let checkpoint = checkpoint.unwrap();

    // Reading 8 GiB would take seconds; opening takes microseconds, but other tests may be running.
    assert!(time < Duration::from_millis(500), "opening took {time:?}");
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after.saturating_sub(before) < 16 << 20, "opening took {} bytes of memory", after - before);
    }
    let tensor = checkpoint["weight"].as_tensor().unwrap();
    assert_eq!((tensor.shape().numel() as u64, tensor.storage().location()), (HOLE, "cuda:0"));
    let bytes = tensor.storage().bytes().unwrap();
    assert_eq!((bytes[0], bytes[bytes.len() - 1]), (0, 42));
}
