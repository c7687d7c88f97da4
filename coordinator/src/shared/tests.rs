//! The shell on a disk that fails, and on a machine that stops.

use std::path::Path;
use std::sync::Arc;

use proto::RunId;

use super::*;
use crate::disk::simulated::{Fault, SimulatedDisk};
use crate::membership::{Past, Terms, Timing};

fn shared(timing: Timing, disk: &SimulatedDisk) -> (Arc<Shared>, mpsc::Receiver<Effect>) {
    let terms = Terms {
        run: RunId::from_u128(1),
        world_size: 2,
        min_world_size: 1,
        version: "1.0".into(),
        timing,
    };
    let membership = Membership::resume(terms, Past::default(), Duration::ZERO);
    let journal = Journal::create_on(Arc::new(disk.clone()), Path::new("/journal")).unwrap();
    let (records, effects) = mpsc::channel(256);
    let shared = Shared::new(membership, timing.lease, journal, records, 0);
    (Arc::new(shared), effects)
}

#[tokio::test]
async fn the_end_is_told_and_recorded_when_it_cannot_be_journalled() {
    let disk = SimulatedDisk::new();
    let (shared, mut effects) = shared(Timing::default(), &disk);
    disk.strike(Fault::FullFrom(0));
    shared.handle(Event::StopRequested).await.unwrap();
    assert!(shared.decisions().borrow().ending.is_some());
    assert!(matches!(effects.try_recv(), Ok(Effect::End(_))));
}

#[tokio::test]
async fn time_goes_on_after_this_process_did_not_run_for_a_while() {
    let timing = Timing {
        lease: Duration::from_millis(40),
        reminder: Duration::from_millis(50),
        ..Timing::default()
    };
    let (shared, mut effects) = shared(timing, &SimulatedDisk::new());
    let keeping = Arc::clone(&shared);
    let keeping = tokio::spawn(async move { keeping.keep_time().await });
    // The reminder becomes due while the only thread of this test is not running.
    std::thread::sleep(Duration::from_millis(200));
    let reminded = tokio::time::timeout(Duration::from_secs(5), effects.recv()).await;
    keeping.abort();
    assert!(matches!(reminded, Ok(Some(Effect::Remind { .. }))));
}
