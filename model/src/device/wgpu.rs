//! GPUs through Vulkan, Metal or DX12, and software that stands in for one.

use burn::tensor::Device;

#[cfg(feature = "wgpu")]
use burn::tensor::{DeviceKind, DeviceType};

/// Returns all adapters in the order of the graphics API, `None` if the backend was not compiled in.
#[cfg(feature = "wgpu")]
pub(super) fn devices() -> Option<Vec<Device>> {
    Some(Device::enumerate(DeviceType::Wgpu).into_vec())
}

#[cfg(not(feature = "wgpu"))]
pub(super) fn devices() -> Option<Vec<Device>> {
    None
}

/// Returns the adapters that are hardware.
pub(super) fn hardware() -> Option<Vec<Device>> {
    devices().map(|devices| devices.into_iter().filter(is_hardware).collect())
}

/// Returns the adapters that are hardware, then the others.
pub(super) fn hardware_first() -> Option<Vec<Device>> {
    devices().map(|mut devices| {
        devices.sort_by_key(|device| !is_hardware(device));
        devices
    })
}

/// A software rasteriser is listed as a CPU.
#[cfg(feature = "wgpu")]
fn is_hardware(device: &Device) -> bool {
    *device != Device::wgpu(DeviceKind::Cpu)
}

#[cfg(not(feature = "wgpu"))]
fn is_hardware(_: &Device) -> bool {
    false
}
