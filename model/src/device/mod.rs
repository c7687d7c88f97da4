//! Which device runs the model: chosen by name at run time, among the backends that were compiled in.
//!
//! | name | backend |
//! |---|---|
//! | `auto` | the first GPU in hardware (CUDA before the graphics API), else `cpu` |
//! | `cpu` | `cpu:tch` if compiled in, else `cpu:flex` |
//! | `cpu:flex` | burn's own CPU backend, in Rust (feature `flex`) |
//! | `cpu:tch` | libtorch (feature `tch`) |
//! | `gpu:N` | `cuda:N` if there is such a GPU, else the N-th of the graphics API, hardware before software |
//! | `cuda:N` | CubeCL (feature `cuda`), else libtorch (feature `tch`) if it was built with CUDA |
//! | `wgpu:N` | Vulkan, Metal or DX12 (feature `wgpu`), in the order the graphics API lists its adapters |
//!
//! The backends keep one thread pool per process, so the number of threads is a setting of the process.

mod cuda;
mod flex;
mod tch;
mod wgpu;

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

pub use burn::tensor::Device;
use thiserror::Error;

/// A device by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The best there is.
    Auto,
    /// The fastest CPU backend that was compiled in.
    Cpu,
    /// burn's CPU backend.
    CpuFlex,
    /// libtorch on the CPU.
    CpuTch,
    /// A GPU by index, through whatever reaches it.
    Gpu(usize),
    /// An NVIDIA GPU by index.
    Cuda(usize),
    /// A GPU of the graphics API by index.
    Wgpu(usize),
}

/// Why there is no such device.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// The text names no device.
    #[error("unknown device `{text}`: use auto, cpu, cpu:flex, cpu:tch, gpu:N, cuda:N or wgpu:N")]
    Unknown {
        /// What was asked for.
        text: String,
    },
    /// The program lacks the backend.
    #[error("device `{choice}` is not compiled into this program: build it with `--features {feature}`")]
    NotCompiledIn {
        /// What was asked for.
        choice: DeviceChoice,
        /// The Cargo feature, or several to choose from.
        feature: &'static str,
    },
    /// The machine lacks the device.
    #[error("there is no device `{choice}`: this program sees {count} such devices here")]
    Absent {
        /// What was asked for.
        choice: DeviceChoice,
        /// How many of its kind there are.
        count: usize,
    },
    /// The process has a thread pool of another size already.
    #[error("cannot use {wanted} threads: this process has already started {running}")]
    Threads {
        /// What was asked for.
        wanted: usize,
        /// What there is.
        running: usize,
    },
}

/// Opens a device by name; `threads` limits the threads of CPU backends, and `None` leaves their default, one
/// per core.
///
/// # Errors
/// If the text names no device, its backend was not compiled in, the machine has no such device, or the thread
/// pool has started with another number of threads.
pub fn open_device(text: &str, threads: Option<NonZeroUsize>) -> Result<Device, DeviceError> {
    text.parse::<DeviceChoice>()?.open(threads)
}

/// Shares out the threads of a device to as many callers at a time as it likes, at most `most`; returns how many that are.
///
/// libtorch on the CPU runs as fast with one thread for each of two callers as with two for one, or faster: there is no waiting at
/// the end of each operation. All others like one caller. From then on a caller has its part of `threads`, rounded down: what
/// does not divide stays idle.
pub fn share_out(device: &Device, threads: NonZeroUsize, most: usize) -> NonZeroUsize {
    tch::share_out(device, threads, most)
}

/// Runs `work` where `device` likes it best, and waits for it.
///
/// For `flex` that is a thread of its pool: operations started from any other thread are handed over one by one,
/// which costs a tenth of a step on small images. libtorch keeps threads for each calling thread, so it and the
/// others stay on this one, which is told how many there are. `device` is one without autodiff, as [`Yolo::device`](crate::yolo::Yolo::device) gives it.
pub fn on_pool<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    tch::settle(device);
    flex::on_pool(device, work)
}

impl DeviceChoice {
    /// Opens the device; see [`open_device`].
    ///
    /// # Errors
    /// As [`open_device`], but for unknown names.
    pub fn open(self, threads: Option<NonZeroUsize>) -> Result<Device, DeviceError> {
        match self {
            Self::Auto => match hardware() {
                Some(device) => Ok(device),
                None => Self::Cpu.open(threads),
            },
            Self::Cpu if cfg!(feature = "tch") => tch::open_cpu(self, threads),
            Self::Cpu | Self::CpuFlex => flex::open(self, threads),
            Self::CpuTch => tch::open_cpu(self, threads),
            Self::Gpu(index) => match nth(cuda_devices(), index) {
                Ok(device) => Ok(device),
                Err(_) => self.nth_of(wgpu::hardware_first().or_else(cuda_devices), index),
            },
            Self::Cuda(index) => self.nth_of(cuda_devices(), index),
            Self::Wgpu(index) => self.nth_of(wgpu::devices(), index),
        }
    }

    fn nth_of(self, devices: Option<Vec<Device>>, index: usize) -> Result<Device, DeviceError> {
        nth(devices, index).map_err(|count| match count {
            Some(count) => DeviceError::Absent { choice: self, count },
            None => self.not_compiled_in(),
        })
    }

    fn not_compiled_in(self) -> DeviceError {
        let feature = match self {
            Self::Auto | Self::Cpu | Self::CpuFlex => "flex",
            Self::CpuTch => "tch",
            Self::Gpu(_) => "cuda`, `--features tch` or `--features wgpu",
            Self::Cuda(_) => "cuda` or `--features tch",
            Self::Wgpu(_) => "wgpu",
        };
        DeviceError::NotCompiledIn {
            choice: self,
            feature,
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::CpuFlex => f.write_str("cpu:flex"),
            Self::CpuTch => f.write_str("cpu:tch"),
            Self::Gpu(index) => write!(f, "gpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu(index) => write!(f, "wgpu:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { text: text.into() };
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let index = || match rest {
            "" => Ok(0),
            rest => rest.parse::<u16>().map(usize::from).map_err(|_| unknown()),
        };
        match (name, rest) {
            ("auto", "") => Ok(Self::Auto),
            ("cpu", "") => Ok(Self::Cpu),
            ("cpu", "flex") => Ok(Self::CpuFlex),
            ("cpu", "tch") => Ok(Self::CpuTch),
            ("gpu", _) => Ok(Self::Gpu(index()?)),
            ("cuda", _) => Ok(Self::Cuda(index()?)),
            ("wgpu", _) => Ok(Self::Wgpu(index()?)),
            _ => Err(unknown()),
        }
    }
}

/// Returns the first GPU that is not software.
fn hardware() -> Option<Device> {
    let gpus = [cuda_devices(), wgpu::hardware()];
    gpus.into_iter().flatten().flatten().next()
}

/// Returns the CUDA devices: those of CubeCL if it was compiled in, else those of libtorch. `None` without both.
fn cuda_devices() -> Option<Vec<Device>> {
    cuda::devices().or_else(tch::cuda_devices)
}

/// Returns one of the devices, or how many there are; `None` if their backend was not compiled in.
fn nth(devices: Option<Vec<Device>>, index: usize) -> Result<Device, Option<usize>> {
    let devices = devices.ok_or(None)?;
    let count = devices.len();
    devices.into_iter().nth(index).ok_or(Some(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_to_their_choice() {
        use DeviceChoice::{Auto, Cpu, CpuFlex, CpuTch, Cuda, Gpu, Wgpu};
        for choice in [Auto, Cpu, CpuFlex, CpuTch, Gpu(2), Cuda(0), Wgpu(7)] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("cuda".parse(), Ok(Cuda(0)));
    }

    #[test]
    fn other_names_are_refused() {
        for text in ["", "cpu:mkl", "cuda:x", "cuda:-1", "tpu", "auto:0"] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert_eq!(error, DeviceError::Unknown { text: text.into() });
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "tch")))]
    #[test]
    fn what_is_not_compiled_in_says_so_in_one_sentence() {
        let error = open_device("cuda:1", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "device `cuda:1` is not compiled into this program: \
             build it with `--features cuda` or `--features tch`"
        );
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_thread_pool_of_flex_has_one_size_per_process() {
        let threads = NonZeroUsize::new(2);
        assert!(open_device("cpu:flex", threads).is_ok());
        assert!(open_device("cpu:flex", threads).is_ok());
        assert!(open_device("cpu:flex", None).is_ok());
        let error = open_device("cpu:flex", NonZeroUsize::new(3)).unwrap_err();
        let expected = DeviceError::Threads {
            wanted: 3,
            running: 2,
        };
        assert_eq!(error, expected);
    }
}
