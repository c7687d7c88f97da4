//! libtorch, on the CPU and through CUDA. Its intra-op threads are a setting of the process.

use std::num::NonZeroUsize;

use burn::tensor::Device;

use super::{DeviceChoice, DeviceError};

// burn 0.22.1 marks its libtorch backend as deprecated; the workspace pins that release on purpose.
#[cfg(feature = "tch")]
#[expect(deprecated)]
pub(super) fn open_cpu(_: DeviceChoice, threads: Option<NonZeroUsize>) -> Result<Device, DeviceError> {
    if let Some(threads) = threads {
        tch::set_num_threads(i32::try_from(threads.get()).unwrap_or(i32::MAX));
    }
    Ok(Device::libtorch())
}

#[cfg(not(feature = "tch"))]
pub(super) fn open_cpu(choice: DeviceChoice, _: Option<NonZeroUsize>) -> Result<Device, DeviceError> {
    Err(choice.not_compiled_in())
}

#[cfg(feature = "tch")]
#[expect(deprecated)]
pub(super) fn share_out(device: &Device, threads: NonZeroUsize, most: usize) -> NonZeroUsize {
    use burn::backend::{DispatchDevice, LibTorchDevice};

    if !matches!(
        device.as_dispatch(),
        DispatchDevice::LibTorch(LibTorchDevice::Cpu)
    ) {
        return NonZeroUsize::MIN;
    }
    let at_once = NonZeroUsize::new(most.min(threads.get())).unwrap_or(NonZeroUsize::MIN);
    tch::set_num_threads(i32::try_from(threads.get() / at_once).unwrap_or(i32::MAX));
    at_once
}

/// Gives the calling thread the number of threads that was set by another. libtorch does so by itself, but not before each
/// operation that needs to know: a convolution takes all cores.
#[cfg(feature = "tch")]
pub(super) fn settle(device: &Device) {
    if crate::native::keeps_graphs(device) {
        tch::get_num_threads();
    }
}

#[cfg(not(feature = "tch"))]
pub(super) fn settle(_: &Device) {}

#[cfg(not(feature = "tch"))]
pub(super) fn share_out(_: &Device, _: NonZeroUsize, _: usize) -> NonZeroUsize {
    NonZeroUsize::MIN
}

/// Returns the GPUs that libtorch sees, `None` if it was not compiled in.
#[cfg(feature = "tch")]
#[expect(deprecated)]
pub(super) fn cuda_devices() -> Option<Vec<Device>> {
    let count = match tch::Cuda::is_available() {
        true => usize::try_from(tch::Cuda::device_count()).unwrap_or(0),
        false => 0,
    };
    Some((0..count).map(Device::libtorch_cuda).collect())
}

#[cfg(not(feature = "tch"))]
pub(super) fn cuda_devices() -> Option<Vec<Device>> {
    None
}
