//! Hostile files of every container. What is said of each is in `errors.txt`: see `files.rs`.

use crate::build::{checkpoint, deflated, entry, int, storage, tensor, text, zip};
use crate::files::committed;

fn write(files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        committed(&format!("{name}.pt"), bytes);
    }
}

const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
const VERSION: &[u8] = b"\x80\x02M\xe9\x03.";

/// A legacy stream with this object, the keys of its storages, and these bytes after them.
fn legacy(object: &[u8], keys: &[u8], storages: &[&[u8]]) -> Vec<u8> {
    let mut bytes = [MAGIC, VERSION, b"\x80\x02}.", b"\x80\x02", object, b".", b"\x80\x02", keys, b"."].concat();
    storages.iter().for_each(|storage| bytes.extend(*storage));
    bytes
}

/// A storage of a legacy stream: the number of elements and the bytes.
fn data(numel: i64, bytes: &[u8]) -> Vec<u8> {
    [&numel.to_le_bytes(), bytes].concat()
}

/// A float32 tensor of 4 elements on the storage `0`, which may be a view of it.
fn legacy_tensor(view: &[u8]) -> Vec<u8> {
    let id =
        [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("0"), text("cpu"), int(4), view.to_vec()].concat();
    let storage = [b"(".to_vec(), id, b"tQ".to_vec()].concat();
    crate::tensor_of(&storage, 0, &[4], &[1])
}

fn view(key: &str, offset: i64, size: i64) -> Vec<u8> {
    [b"(".to_vec(), text(key), int(offset), int(size), b"t".to_vec()].concat()
}

fn keys(names: &[&str]) -> Vec<u8> {
    [b"](".to_vec(), names.iter().flat_map(|name| text(name)).collect(), b"e".to_vec()].concat()
}

#[test]
fn legacy_streams() {
    let none = legacy_tensor(b"N");
    let whole = data(4, &[7; 16]);
    let one = keys(&["0"]);
    write(&[
        ("legacy-good", legacy(&none, &one, &[&whole])),
        ("legacy-magic-alone", MAGIC.to_vec()),
        ("legacy-version-alone", [MAGIC, VERSION].concat()),
        ("legacy-another-version", [MAGIC, b"\x80\x02M\xea\x03.", b"\x80\x02}.\x80\x02N.\x80\x02]."].concat()),
        ("legacy-version-is-text", [MAGIC, b"\x80\x02X\x01\0\0\0x.", b"\x80\x02}.\x80\x02N.\x80\x02]."].concat()),
        ("legacy-object-cut", legacy(&none, &one, &[])[..90].to_vec()),
        ("legacy-keys-missing", [MAGIC, VERSION, b"\x80\x02}.\x80\x02N."].concat()),
        ("legacy-keys-not-a-list", legacy(&none, b"N", &[&whole])),
        ("legacy-keys-not-text", legacy(&none, b"](NNe", &[&whole])),
        ("legacy-key-twice", legacy(&none, &keys(&["0", "0"]), &[&whole, &whole])),
        ("legacy-key-unknown", legacy(&none, &keys(&["1"]), &[&whole])),
        ("legacy-key-without-storage", legacy(&none, &keys(&["0", "9"]), &[&whole])),
        ("legacy-storage-missing", legacy(&none, &one, &[])),
        ("legacy-storage-cut", legacy(&none, &one, &[&whole[..20]])),
        ("legacy-another-size", legacy(&none, &one, &[&data(3, &[7; 12])])),
        ("legacy-negative-size", legacy(&none, &one, &[&data(-4, &[7; 16])])),
        ("legacy-huge-size", legacy(&none, &one, &[&data(i64::MAX, &[7; 16])])),
        ("legacy-view-past-the-end", legacy(&legacy_tensor(&view("9", 3, 4)), &one, &[&whole])),
        ("legacy-view-before-the-start", legacy(&legacy_tensor(&view("9", -1, 4)), &one, &[&whole])),
        ("legacy-view-overflows", legacy(&legacy_tensor(&view("9", i64::MAX, 4)), &one, &[&whole])),
        ("legacy-view-is-text", legacy(&legacy_tensor(&text("x")), &one, &[&whole])),
        ("legacy-object-in-itself", legacy(b"]q\x00h\x00a", b"]", &[])),
        ("legacy-rest-is-garbage", legacy(b"N", b"]", &[b"garbage after the end"])),
        ("legacy-runs-a-command", legacy(b"cposix\nsystem\nX\x02\0\0\0ls\x85R", b"]", &[])),
    ]);
}

/// A member of a tar archive; `size` is what its header says.
fn member(name: &str, size: &str, data: &[u8]) -> Vec<u8> {
    let mut header = vec![0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..124 + size.len()].copy_from_slice(size.as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend(data);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        members.iter().flat_map(|(name, data)| member(name, &format!("{:011o}", data.len()), data)).collect();
    bytes.extend([0; 1024]);
    bytes
}

#[test]
fn tar_archives() {
    let info: (&str, &[u8]) = ("sys_info", b"\x80\x02}.");
    let none: (&str, &[u8]) = ("tensors", b"\x80\x02K\x00.");
    let empty: (&str, &[u8]) = ("storages", b"\x80\x02K\x00.\x80\x02].");
    let pickle: (&str, &[u8]) = ("pickle", b"\x80\x02N.");
    let good = tar(&[info, pickle, none, empty]);
    let mut checksum = good.clone();
    checksum[0] = b'x';
    let entry = |key: &[u8]| [b"\x80\x02K\x01.\x80\x02", key, b"."].concat();
    let of = |storages: &[u8]| tar(&[info, pickle, none, ("storages", storages)]);
    let key = [b"(K\x05".to_vec(), text("cpu"), b"ctorch\nFloatStorage\nt".to_vec()].concat();
    let with = |numel: i64, rest: &[u8]| of(&[entry(&key), data(numel, &[1; 16]), rest.to_vec()].concat());
    let tensors = |rank: i32, sizes: &[i64]| {
        let mut bytes = b"\x80\x02K\x01.\x80\x02(K\x07K\x05ctorch\nFloatTensor\nt.".to_vec();
        bytes.extend(rank.to_le_bytes());
        bytes.extend([0; 4]);
        sizes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        let storages = [entry(&key), data(4, &[1; 16]), b"\x80\x02].".to_vec()].concat();
        tar(&[info, ("pickle", b"\x80\x02K\x07Q."), ("tensors", &bytes), ("storages", &storages)])
    };
    write(&[
        ("tar-good", good.clone()),
        ("tar-tensor", tensors(1, &[4, 1, 0])),
        ("tar-tensor-past-the-end", tensors(1, &[5, 1, 0])),
        ("tar-negative-size", tensors(1, &[-1, 1, 0])),
        ("tar-negative-offset", tensors(1, &[4, 1, -1])),
        ("tar-negative-rank", tensors(-1, &[4, 1, 0])),
        ("tar-huge-rank", tensors(i32::MAX, &[4, 1, 0])),
        ("tar-sizes-that-overflow", tensors(2, &[i64::MAX, i64::MAX, 1, 1, 0])),
        ("tar-cut", good[..700].to_vec()),
        ("tar-without-pickle", tar(&[info, none, empty])),
        ("tar-without-storages", tar(&[info, pickle, none])),
        ("tar-of-something-else", tar(&[("notes.txt", b"hello")])),
        ("tar-member-twice", tar(&[info, pickle, pickle, none, empty])),
        ("tar-wrong-checksum", checksum),
        ("tar-size-not-octal", member("pickle", "9999999999x", b"N.")),
        ("tar-size-past-the-end", member("pickle", "77777777777", b"N.")),
        ("tar-count-is-text", of(b"\x80\x02X\x01\0\0\0x.")),
        ("tar-count-is-huge", of(b"\x80\x02\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.")),
        ("tar-count-is-negative", of(b"\x80\x02J\xff\xff\xff\xff.")),
        ("tar-storage-cut", with(1 << 40, b"")),
        ("tar-storage-negative", with(-1, b"")),
        ("tar-views-missing", with(4, b"")),
        ("tar-runs-a-command", tar(&[info, ("pickle", b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R."), none, empty])),
    ]);
}

fn script(pickle: &[u8]) -> Vec<u8> {
    let pickle = [b"\x80\x02", pickle, b"."].concat();
    let code = b"while True: pass\n";
    zip(&[
        entry("a/data.pkl", &pickle),
        entry("a/code/__torch__.py", code),
        entry("a/constants.pkl", b"\x80\x02)."),
        entry("a/data/0", &[7; 16]),
        entry("a/version", b"3\n"),
    ])
}

#[test]
fn torchscript_archives() {
    let module = b"c__torch__\nNet\n)\x81";
    let good = [module.as_slice(), b"}", &text("weight"), &tensor(0, &[4], &[1]), b"sb"].concat();
    let bad = [module.as_slice(), b"}", &text("weight"), &tensor(0, &[5], &[1]), b"sb"].concat();
    let missing = [module.as_slice(), b"}", &text("weight"), &storage("9", "FloatStorage", 4), b"sb"].concat();
    let itself = [module.as_slice(), b"q\x00}", &text("me"), b"h\x00sb"].concat();
    write(&[
        ("script-good", script(&good)),
        ("script-tensor-past-the-end", script(&bad)),
        ("script-storage-missing", script(&missing)),
        ("script-module-in-itself", script(&itself)),
        ("script-no-module", script(b"N")),
        ("script-runs-a-command", script(b"cposix\nsystem\nX\x02\0\0\0ls\x85R")),
        ("script-empty-pickle", zip(&[entry("a/data.pkl", b""), entry("a/constants.pkl", b"\x80\x02).")])),
        ("script-pickle-missing", zip(&[entry("a/constants.pkl", b"\x80\x02)."), entry("a/version", b"3\n")])),
    ]);
}

#[test]
fn plain_pickles() {
    let command = |module: &str, name: &str| {
        [format!("\x02c{module}\n{name}\n").into_bytes(), text("touch /tmp/sconce-was-here"), b"\x85R.".to_vec()]
            .concat()
    };
    let command = |module, name| [b"\x80".to_vec(), command(module, name)].concat();
    write(&[
        ("plain-os-system", command("os", "system")),
        ("plain-eval", command("__builtin__", "eval")),
        ("plain-exec", command("builtins", "exec")),
        ("plain-import", command("__builtin__", "__import__")),
        ("plain-popen", command("subprocess", "Popen")),
        ("plain-rmtree", command("shutil", "rmtree")),
        ("plain-no-stop", b"\x80\x02}".to_vec()),
        ("plain-storage-outside", [b"\x80\x02", &storage("0", "FloatStorage", 4)[..], b"."].concat()),
        ("plain-dict-cut", b"\x80\x04\x95\xff\0\0\0\0\0\0\0}.".to_vec()),
        ("plain-protocol-6", b"\x80\x06N.".to_vec()),
        ("plain-text-protocol-0", b"(lp0\nI1\naI2\na.".to_vec()),
        ("plain-garbage-after", b"\x80\x02N.garbage".to_vec()),
        ("plain-doubling", [b"\x80\x02N".to_vec(), b"2\x86".repeat(900), b".".to_vec()].concat()),
        ("plain-deep", [b"\x80\x02".to_vec(), b"]".repeat(20_000), b"a".repeat(19_999), b".".to_vec()].concat()),
        ("plain-huge-integer", [b"\x80\x02\x8b\xff\xff\xff\x7f".to_vec(), vec![1; 100], b".".to_vec()].concat()),
    ]);
}

#[test]
fn evil_zip_archives() {
    let call = |path: &str, argument: &[u8]| {
        let (module, name) = path.rsplit_once('.').unwrap();
        checkpoint(&[format!("c{module}\n{name}\n").as_bytes(), argument, b"\x85R"].concat())
    };
    let max = i64::MAX;
    let zeros = vec![0; 32 << 20];
    write(&[
        ("evil-os-system", call("os.system", &text("ls"))),
        ("evil-torch-load", call("torch.load", &text("https://example.org/model.pt"))),
        ("evil-getattr", call("builtins.getattr", &text("os"))),
        ("evil-state", checkpoint(&[b"cos\nsystem\n)R}".as_slice(), &text("a"), b"K\x01sb"].concat())),
        ("evil-key", checkpoint(&[b"}cos\nsystem\n".as_slice(), &text("ls"), b"\x85RK\x01s"].concat())),
        ("evil-name", checkpoint(&[b"}".as_slice(), &text("\x1b[2J\x1b]0;owned\x07\u{202e}"), b"K\x01s"].concat())),
        ("cyclic-list", checkpoint(b"]q\x00h\x00a")),
        ("cyclic-dict", checkpoint(&[b"}q\x00".as_slice(), &text("me"), b"h\x00s"].concat())),
        ("cyclic-tuple", checkpoint(b"]q\x00h\x00\x85a")),
        ("doubling-dicts", checkpoint(&[b"N".as_slice(), &b"2\x86".repeat(900)].concat())),
        ("giant-expand", checkpoint(&tensor(0, &[1 << 40], &[0]))),
        ("giant-expand-of-many-dimensions", checkpoint(&tensor(0, &[1 << 10; 4], &[0; 4]))),
        ("giant-empty", checkpoint(&tensor(0, &[0, max, max], &[max, max, max]))),
        ("many-dimensions", checkpoint(&tensor(0, &[1; 5_000], &[1; 5_000]))),
        ("bomb-pickle", deflated(&[("a/data.pkl", &zeros)])),
        ("bomb-version", deflated(&[("a/data.pkl", b"\x80\x02N."), ("a/version", &zeros[..1 << 20])])),
        ("bomb-byteorder", deflated(&[("a/data.pkl", b"\x80\x02N."), ("a/byteorder", &zeros[..1 << 20])])),
    ]);
}

#[test]
fn shard_indexes() {
    let index = |json: &str| json.as_bytes().to_vec();
    let map = |file: &str| index(&format!("{{\"metadata\": {{}}, \"weight_map\": {{\"a\": {file}}}}}"));
    write(&[
        ("shards-outside", map("\"../../../Cargo.toml\"")),
        ("shards-absolute", map("\"/etc/passwd\"")),
        ("shards-windows", map("\"..\\\\..\\\\secret.bin\"")),
        ("shards-drive", map("\"C:\\\\secret.bin\"")),
        ("shards-missing", map("\"no-such-shard.bin\"")),
        ("shards-themselves", map("\"shards-themselves.pt\"")),
        ("shards-in-a-circle", map("\"shards-themselves.pt\"")),
        ("shards-no-text", map("7")),
        ("shards-nul", map("\"a\\u0000b\"")),
        ("shards-empty-name", map("\"\"")),
        ("shards-a-directory", map("\".\"")),
        ("shards-without-tensors", index("{\"weight_map\": {}}")),
        ("shards-not-a-map", index("{\"weight_map\": []}")),
        ("shards-cut", index("{\"weight_map\": {\"a\": \"b.bin\"")),
        ("shards-deep", index(&format!("{{\"weight_map\": {}", "[".repeat(30_000)))),
        ("shards-tensor-not-there", map("\"cyclic-dict.pt\"")),
    ]);
}

/// A safetensors file; `data` bytes follow the header.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![1; data]].concat()
}

#[test]
fn safetensors_files() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!("{{\"a\": {{\"dtype\": {dtype}, \"shape\": {shape}, \"data_offsets\": {offsets}}}}}")
    };
    let file = |dtype: &str, shape: &str, offsets: &str| safetensors(&one(dtype, shape, offsets), 16);
    let two = "{\"a\": {\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0, 8]}, \
               \"b\": {\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [4, 12]}}";
    let long = [&u64::MAX.to_le_bytes()[..], b"{\"a\": 1}"].concat();
    let lie = [&1000u64.to_le_bytes()[..], b"{\"a\": 1}"].concat();
    write(&[
        ("safetensors-good", file("\"F32\"", "[4]", "[0, 16]")),
        ("safetensors-too-short", safetensors(&one("\"F32\"", "[4]", "[0, 16]"), 15)),
        ("safetensors-too-long", safetensors(&one("\"F32\"", "[4]", "[0, 16]"), 17)),
        ("safetensors-wrong-size", file("\"F32\"", "[3]", "[0, 16]")),
        ("safetensors-sizes-overflow", file("\"F32\"", "[4294967296, 4294967296, 4]", "[0, 16]")),
        ("safetensors-offsets-past-the-end", file("\"F32\"", "[4]", "[16, 32]")),
        ("safetensors-offsets-reversed", file("\"F32\"", "[4]", "[16, 0]")),
        ("safetensors-offsets-huge", file("\"F32\"", "[4]", "[18446744073709551600, 18446744073709551615]")),
        ("safetensors-offsets-negative", file("\"F32\"", "[4]", "[-16, 0]")),
        ("safetensors-overlapping", safetensors(two, 16)),
        ("safetensors-unknown-dtype", file("\"F128\"", "[1]", "[0, 16]")),
        ("safetensors-no-dtype", safetensors("{\"a\": {\"shape\": [4], \"data_offsets\": [0, 16]}}", 16)),
        ("safetensors-name-twice", safetensors("{\"a\": 1, \"a\": 2}", 0)),
        ("safetensors-not-json", safetensors("{\"a\": nonsense}", 0)),
        ("safetensors-json-after-json", safetensors("{} {}", 0)),
        ("safetensors-deep", safetensors(&format!("{{\"a\": {}", "[".repeat(30_000)), 0)),
        ("safetensors-header-longer-than-the-file", lie),
        ("safetensors-header-of-all-bytes", long),
    ]);
}
