//! How a coordinator is asked to end: once for a clean stop, twice for an end at once.

use tokio_util::sync::CancellationToken;

/// The two requests, as tokens that a signal handler, a parent or a test cancels.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Stop at the next step boundary and save the last weights.
    pub stop: CancellationToken,
    /// End at once.
    pub abort: CancellationToken,
}

impl Shutdown {
    /// Cancels `stop` on the first Ctrl-C or SIGTERM and `abort` on the second.
    ///
    /// # Errors
    /// When the system does not let us handle signals.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let mut signals = Signals::new()?;
        tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                signals.next().await;
                shutdown.stop.cancel();
                signals.next().await;
                shutdown.abort.cancel();
            }
        });
        Ok(shutdown)
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // Without a handler there is nothing to wait for; the system ends the process by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
