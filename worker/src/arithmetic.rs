//! What the bits of a training step depend on besides recipe, data and state.
//!
//! Exact sums make a run independent of who computed which slot, provided that every worker computes a slot to the
//! same bits. That needs the same program, the same backend, and the same processor features, by which CPU
//! backends choose their kernels. libtorch also needs the same number of threads for a slot; flex does not depend on it.

use model::device::Device;
use proto::Fingerprint;

/// Returns one line that is equal for two workers when their arithmetic is, as far as can be told; `threads` compute a slot.
pub fn arithmetic(device: &Device, threads: usize) -> String {
    // Without the index: GPUs of one host are taken to be alike.
    let backend: String = format!("{device:?}")
        .chars()
        .filter(|c| !c.is_ascii_digit())
        .collect();
    let threads = if backend.to_lowercase().contains("torch") {
        format!(", threads {threads}")
    } else {
        String::new()
    };
    format!(
        "backend {backend}{threads}, processor {}, program {}",
        processor(),
        program()
    )
}

/// Returns the instruction set and its widest vectors.
fn processor() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            "x86-64 AVX-512"
        } else if std::is_x86_feature_detected!("avx2") {
            "x86-64 AVX2"
        } else {
            "x86-64"
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}

/// Returns the first digits of the digest of this program's file.
fn program() -> String {
    let content = std::env::current_exe().and_then(std::fs::read);
    content.map_or_else(
        |_| format!("of version {}", proto::VERSION),
        |content| Fingerprint::of(&content).to_string()[..PROGRAM_DIGITS].to_owned(),
    )
}

/// Enough to tell programs apart.
const PROGRAM_DIGITS: usize = 12;
