//! Which device a text means, and the order in which GPUs are numbered.

use super::ADAPTER_VARIABLE;
use super::info::{DeviceInfo, DeviceKind};
use crate::error::{Error, Result};

/// What a text asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Cpu,
    Auto,
    /// The GPU of this number.
    Gpu(usize),
    /// The adapter whose name contains this.
    Name(String),
}

impl Wanted {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let lower = text.to_lowercase();
        let (kind, number) = match lower.split_once(':') {
            Some((kind, number)) => (kind, Some(number)),
            None => (lower.as_str(), None),
        };
        let known = matches!(kind, "cpu" | "gpu" | "cuda" | "mps" | "auto");
        let number = match number {
            Some(number) if known => {
                Some(number.parse::<usize>().ok().filter(|_| kind != "auto").ok_or_else(|| {
                    Error::device(format!("`{text}` is not a device")).help("a device is written as `gpu:0`")
                })?)
            }
            _ => None,
        };
        match kind {
            "" => Err(Error::device("the name of the device is empty").help("for example `cpu`, `gpu` or `auto`")),
            "cpu" if number.unwrap_or(0) == 0 => Ok(Wanted::Cpu),
            "cpu" => Err(Error::device(format!("device `{text}` is not there: there is one CPU")).help("use `cpu`")),
            "auto" => Ok(Wanted::Auto),
            _ if known => Ok(Wanted::Gpu(number.unwrap_or(0))),
            _ => Ok(Wanted::Name(text.into())),
        }
    }
}

/// What decides an adapter's number, besides its place in the driver's own order.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) info: DeviceInfo,
    /// The PCI ids of vendor and device.
    pub(crate) ids: (u32, u32),
}

/// Puts adapters into the order of their numbers and gives them their ids: discrete ones first, then integrated and
/// virtual ones; after these the second sight of a card that two backends show, then what has no number.
pub(crate) fn number(all: &[Candidate], narrow: Option<&str>) -> Vec<(usize, DeviceInfo)> {
    let twice: Vec<bool> = (0..all.len()).map(|i| is_second_sight(all, i)).collect();
    let counts = |info: &DeviceInfo| match narrow {
        Some(part) => contains(&info.name, part),
        None => info.kind != DeviceKind::Software,
    };
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&i| (!counts(&all[i].info), twice[i], rank(all[i].info.kind), all[i].info.backend == "DX12", i));
    let mut next = 0;
    let mut numbered = Vec::with_capacity(all.len());
    for i in order {
        let mut info = all[i].info.clone();
        info.id = if counts(&info) { format!("gpu:{next}") } else { info.name.clone() };
        next += usize::from(counts(&info));
        numbered.push((i, info));
    }
    numbered
}

/// Whether adapter `i` is a DX12 view of a card that another backend shows too.
fn is_second_sight(all: &[Candidate], i: usize) -> bool {
    let same = |other: &Candidate, backend: bool| {
        other.ids == all[i].ids && all[i].ids != (0, 0) && (other.info.backend == "DX12") == backend
    };
    if all[i].info.backend != "DX12" {
        return false;
    }
    let earlier = all[..i].iter().filter(|&other| same(other, true)).count();
    earlier < all.iter().filter(|&other| same(other, false)).count()
}

fn rank(kind: DeviceKind) -> usize {
    match kind {
        DeviceKind::Discrete => 0,
        DeviceKind::Integrated => 1,
        DeviceKind::Virtual => 2,
        DeviceKind::Other => 3,
        DeviceKind::Software | DeviceKind::Cpu => 4,
    }
}

fn contains(name: &str, part: &str) -> bool {
    name.to_lowercase().contains(&part.trim().to_lowercase())
}

/// The indices into `devices` (as [`number`] orders them) that may be opened for `wanted`, best first; for `auto` none
/// means the CPU.
pub(crate) fn choose(wanted: &Wanted, text: &str, devices: &[DeviceInfo], narrow: Option<&str>) -> Result<Vec<usize>> {
    let numbered: Vec<usize> = (0..devices.len()).filter(|&i| devices[i].id.starts_with("gpu:")).collect();
    match wanted {
        Wanted::Cpu => Ok(Vec::new()),
        Wanted::Auto if numbered.is_empty() && narrow.is_some() => Err(not_there(text, devices, narrow)),
        Wanted::Auto => Ok(numbered),
        Wanted::Gpu(number) => match numbered.get(*number) {
            Some(&i) => Ok(vec![i]),
            None => Err(not_there(text, devices, narrow)),
        },
        Wanted::Name(name) => {
            let mut found: Vec<usize> = (0..devices.len()).filter(|&i| contains(&devices[i].name, name)).collect();
            let exact: Vec<usize> =
                found.iter().copied().filter(|&i| devices[i].name.eq_ignore_ascii_case(name)).collect();
            if !exact.is_empty() {
                found = exact;
            }
            match found.as_slice() {
                [] => Err(not_there(text, devices, None)),
                // One card under two backends is not ambiguous: the first is the preferred one.
                [first, rest @ ..] if rest.iter().all(|&i| devices[i].name == devices[*first].name) => Ok(vec![*first]),
                _ => Err(Error::device(format!("device `{text}` fits several adapters: {}", names(devices, &found)))
                    .help("give more of the name, or the number")),
            }
        }
    }
}

fn names(devices: &[DeviceInfo], which: &[usize]) -> String {
    which.iter().map(|&i| format!("`{}`", devices[i])).collect::<Vec<_>>().join(", ")
}

fn not_there(text: &str, devices: &[DeviceInfo], narrow: Option<&str>) -> Error {
    let all: Vec<usize> = (0..devices.len()).collect();
    let there = if all.is_empty() { "no GPU".into() } else { names(devices, &all) };
    let because = match narrow {
        Some(part) => format!(" (`{ADAPTER_VARIABLE}={part}`)"),
        None => String::new(),
    };
    let error = Error::device(format!("device `{text}` is not there{because}: this machine has `cpu` and {there}"));
    let numbered = devices.iter().filter(|info| info.id.starts_with("gpu:")).count();
    match devices.first() {
        _ if narrow.is_some() && numbered == 0 => {
            error.help(format!("unset `{ADAPTER_VARIABLE}`, or set it to a part of an adapter's name"))
        }
        Some(first) if numbered == 0 => error.help(format!(
            "a software adapter is not taken for a GPU unless it is named: set `{ADAPTER_VARIABLE}={}`, or use `cpu`",
            first.name.split([' ', '(']).next().unwrap_or(&first.name)
        )),
        Some(_) => error.help("use one of these, or `auto`"),
        None => error.help("use `cpu` or `auto`, or install a Vulkan driver"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: DeviceKind, backend: &'static str, ids: (u32, u32)) -> Candidate {
        let info = DeviceInfo { name: name.into(), kind, backend, ..DeviceInfo::cpu() };
        Candidate { info, ids }
    }

    fn machine() -> Vec<Candidate> {
        vec![
            adapter("Intel(R) UHD 770", DeviceKind::Integrated, "Vulkan", (0x8086, 1)),
            adapter("NVIDIA GeForce RTX 4090", DeviceKind::Discrete, "Vulkan", (0x10de, 2)),
            adapter("llvmpipe (LLVM 19, 256 bits)", DeviceKind::Software, "Vulkan", (0x10005, 0)),
            adapter("NVIDIA GeForce RTX 4090", DeviceKind::Discrete, "DX12", (0x10de, 2)),
            adapter("NVIDIA Quadro P400", DeviceKind::Discrete, "DX12", (0x10de, 3)),
        ]
    }

    fn devices(narrow: Option<&str>) -> Vec<DeviceInfo> {
        number(&machine(), narrow).into_iter().map(|(_, info)| info).collect()
    }

    fn chosen(text: &str, narrow: Option<&str>) -> Result<Vec<String>> {
        let devices = devices(narrow);
        let found = choose(&Wanted::parse(text)?, text, &devices, narrow)?;
        Ok(found.iter().map(|&i| devices[i].to_string()).collect())
    }

    #[test]
    fn numbers_are_stable() {
        let ids: Vec<String> = devices(None).iter().map(ToString::to_string).collect();
        assert_eq!(
            ids,
            [
                "gpu:0 NVIDIA GeForce RTX 4090 (Vulkan)",
                "gpu:1 NVIDIA Quadro P400 (DX12)",
                "gpu:2 Intel(R) UHD 770 (Vulkan)",
                "gpu:3 NVIDIA GeForce RTX 4090 (DX12)",
                "llvmpipe (LLVM 19, 256 bits) (Vulkan, software)",
            ]
        );
    }

    #[test]
    fn texts_choose() {
        assert_eq!(chosen("cuda", None).unwrap(), ["gpu:0 NVIDIA GeForce RTX 4090 (Vulkan)"]);
        assert_eq!(chosen("mps", None).unwrap(), chosen("gpu:0", None).unwrap());
        assert_eq!(chosen("CUDA:2", None).unwrap(), ["gpu:2 Intel(R) UHD 770 (Vulkan)"]);
        assert_eq!(chosen("uhd", None).unwrap(), ["gpu:2 Intel(R) UHD 770 (Vulkan)"]);
        assert_eq!(chosen("4090", None).unwrap(), ["gpu:0 NVIDIA GeForce RTX 4090 (Vulkan)"]);
        assert_eq!(chosen("llvmpipe", None).unwrap(), ["llvmpipe (LLVM 19, 256 bits) (Vulkan, software)"]);
        assert_eq!(chosen("gpu", Some("LLVM")).unwrap(), ["gpu:0 llvmpipe (LLVM 19, 256 bits) (Vulkan, software)"]);
        assert_eq!(chosen("auto", Some("llvmpipe")).unwrap().len(), 1);
        assert_eq!(chosen("auto", None).unwrap()[0], "gpu:0 NVIDIA GeForce RTX 4090 (Vulkan)");
        assert_eq!(Wanted::parse("cpu:0").unwrap(), Wanted::Cpu);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let error = |text: &str, narrow| chosen(text, narrow).unwrap_err().to_string();
        assert!(error("nvidia", None).starts_with("device `nvidia` fits several adapters: `gpu:0 NVIDIA GeForce"));
        assert!(error("gpu:4", None).starts_with("device `gpu:4` is not there: this machine has `cpu` and `gpu:0 NV"));
        assert!(
            error("gpu:1", Some("llvmpipe")).starts_with("device `gpu:1` is not there (`SCONCE_ADAPTER=llvmpipe`)")
        );
        assert!(error("auto", Some("voodoo")).contains("SCONCE_ADAPTER=voodoo"));
        assert!(error("voodoo", None).contains("device `voodoo` is not there"));
        for text in ["gpu:x", "cuda:-1", "auto:1", "cpu:1", " "] {
            assert!(Wanted::parse(text).is_err(), "{text}");
        }
        let software: Vec<DeviceInfo> = devices(None).into_iter().skip(4).collect();
        let error = choose(&Wanted::Gpu(0), "cuda", &software, None).unwrap_err().to_string();
        assert!(error.contains("set `SCONCE_ADAPTER=llvmpipe`"), "{error}");
        assert!(choose(&Wanted::Auto, "auto", &software, None).unwrap().is_empty());
    }
}
