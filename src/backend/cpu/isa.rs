//! Instruction sets, and how one function is compiled for each of them.

use std::sync::OnceLock;

use crate::error::{Error, Result};

/// The environment variable that names the instruction set to use.
const VARIABLE: &str = "SCONCE_CPU";

/// An instruction set. All that the target can have are compiled in, one is chosen at run time: values of this type
/// that are used are ones that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Isa {
    Avx512,
    Avx2,
    Neon,
    Portable,
}

impl Isa {
    /// Every instruction set, the preferred ones first.
    pub(crate) const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// Those that this machine has, the preferred ones first.
    pub(crate) fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The one that `SCONCE_CPU` names, in letters of either case, else the best one.
    ///
    /// # Errors
    /// When the variable names none, or one that this machine does not have.
    pub(crate) fn choose() -> Result<Self> {
        static NAME: OnceLock<Option<String>> = OnceLock::new();
        let name = NAME.get_or_init(|| std::env::var_os(VARIABLE).map(|name| name.to_string_lossy().into_owned()));
        Self::named(name.as_deref())
    }

    fn named(name: Option<&str>) -> Result<Self> {
        let available = Self::available();
        let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else { return Ok(available[0]) };
        let is_named = |isa: &Self| isa.name().eq_ignore_ascii_case(name);
        available.iter().copied().find(is_named).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|isa| format!("`{}`", isa.name())).collect();
            let trouble = match Self::ALL.iter().any(is_named) {
                true => "is an instruction set that this machine does not have",
                false => "is not an instruction set",
            };
            Error::not_found(format!("`{VARIABLE}={name}` {trouble}")).help(format!("it may be {}", names.join(", ")))
        })
    }

    /// Whether this machine has it.
    pub(crate) fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Isa::Neon => cfg!(target_arch = "aarch64"),
            Isa::Portable => true,
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        }
    }
}

/// What a function that is compiled for several instruction sets must know about the one at hand.
pub(crate) trait Level {
    /// `a * b + c`, fused where that is one instruction.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;
}

/// With fused multiply-add.
pub(crate) struct Fma;

/// Without: `f32::mul_add` would be a call.
pub(crate) struct Plain;

impl Level for Fma {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Level for Plain {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// Makes a function whose first argument is an [`Isa`] from one that is generic over a [`Level`]: its body, written so
/// that the compiler turns its loops into vectors, is compiled once for each instruction set.
macro_rules! simd {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<$level:ident>($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block
    )*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, clippy::allow_attributes)]
        $vis fn $name(isa: $crate::backend::cpu::isa::Isa, $($arg: $type),*) $(-> $out)? {
            use $crate::backend::cpu::isa::{Fma, Isa, Level, Plain};

            #[inline(always)]
            fn body<$level: Level>($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $type),*) $(-> $out)? {
                body::<Fma>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) $(-> $out)? {
                body::<Fma>($($arg),*)
            }

            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an instruction set in use is one that this machine has.
                Isa::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Isa::Avx2 => unsafe { avx2($($arg),*) },
                Isa::Neon => body::<Fma>($($arg),*),
                _ => body::<Plain>($($arg),*),
            }
        }
    )*};
}
pub(crate) use simd;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(Isa::named(Some("portable")).unwrap(), Isa::Portable);
        assert_eq!(Isa::named(Some("Portable ")).unwrap(), Isa::Portable);
        for unset in [None, Some(""), Some(" ")] {
            assert_eq!(Isa::named(unset).unwrap(), Isa::available()[0]);
        }
        let error = Isa::named(Some("sse9")).unwrap_err().to_string();
        assert!(error.contains("`SCONCE_CPU=sse9` is not") && error.contains("`portable`"), "{error}");
    }
}
