//! burn's CPU backend. Its threads are those of rayon's global pool.

use std::num::NonZeroUsize;

use burn::tensor::Device;

use super::{DeviceChoice, DeviceError};

#[cfg(feature = "flex")]
pub(super) fn open(_: DeviceChoice, threads: Option<NonZeroUsize>) -> Result<Device, DeviceError> {
    if let Some(wanted) = threads.map(NonZeroUsize::get) {
        // The pool can be made once only; a second request is fine if it wants the same.
        let made = rayon::ThreadPoolBuilder::new().num_threads(wanted).build_global();
        let running = rayon::current_num_threads();
        if made.is_err() && running != wanted {
            return Err(DeviceError::Threads { wanted, running });
        }
    }
    Ok(Device::flex())
}

#[cfg(not(feature = "flex"))]
pub(super) fn open(choice: DeviceChoice, _: Option<NonZeroUsize>) -> Result<Device, DeviceError> {
    Err(choice.not_compiled_in())
}

#[cfg(feature = "flex")]
pub(super) fn on_pool<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    if *device == Device::flex() {
        rayon::scope(|_| work())
    } else {
        work()
    }
}

#[cfg(not(feature = "flex"))]
pub(super) fn on_pool<R: Send>(_: &Device, work: impl FnOnce() -> R + Send) -> R {
    work()
}
