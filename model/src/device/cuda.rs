//! NVIDIA GPUs through CubeCL.

use burn::tensor::Device;

/// Returns the GPUs that CubeCL sees, `None` if it was not compiled in.
#[cfg(feature = "cuda")]
pub(super) fn devices() -> Option<Vec<Device>> {
    use burn::tensor::DeviceType;

    Some(Device::enumerate(DeviceType::Cuda).into_vec())
}

#[cfg(not(feature = "cuda"))]
pub(super) fn devices() -> Option<Vec<Device>> {
    None
}
