//! Where the gradients of parameters go while the backward pass still runs.
//!
//! A cluster wants to add up the gradients of the last layers while those of the first are still computed. Where a device keeps
//! graphs itself, they run backwards in pieces, and each hands on what it has found ([`trace`](crate::trace)). burn gives gradients when
//! all are known; there a training pass leads each parameter through an operation that changes nothing, and whose
//! backward hands the finished gradient to an [`Outlet`].

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

/// Takes finished gradients, in the order in which the backward pass finishes them.
///
/// They are copied to the host some at a time, so that a device is not waited for at each tensor.
#[derive(Clone)]
pub struct Outlet {
    shared: Arc<Shared>,
}

struct Shared {
    sink: Box<dyn Fn(usize, Vec<f32>) + Send + Sync>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    gradients: Vec<Gradient>,
    values: usize,
}

/// A gradient on its device.
struct Gradient {
    tensor: usize,
    read: Box<dyn FnOnce() -> Vec<f32> + Send>,
}

impl Outlet {
    /// Returns an outlet that leads to `sink`, which is given the position of a tensor among the layout's parameters, and
    /// its gradient.
    pub fn new(sink: impl Fn(usize, Vec<f32>) + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                sink: Box::new(sink),
                waiting: Mutex::default(),
            }),
        }
    }

    /// Takes the gradient of a tensor of so many values, which `read` copies to the host.
    pub(crate) fn hand_on(
        &self,
        tensor: usize,
        values: usize,
        read: impl FnOnce() -> Vec<f32> + Send + 'static,
    ) {
        let mut waiting = self.waiting();
        waiting.values += values;
        waiting.gradients.push(Gradient {
            tensor,
            read: Box::new(read),
        });
        let is_full = waiting.values >= VALUES_AT_ONCE;
        drop(waiting);
        if is_full {
            self.flush();
        }
    }

    /// Hands on what still waits; comes after the backward pass.
    pub fn flush(&self) {
        let waiting = mem::take(&mut *self.waiting());
        for gradient in waiting.gradients {
            (self.shared.sink)(gradient.tensor, (gradient.read)());
        }
    }

    fn waiting(&self) -> impl std::ops::DerefMut<Target = Waiting> + '_ {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

/// A quarter of a megabyte: a fiftieth of yolov8n.
const VALUES_AT_ONCE: usize = 64 << 10;
