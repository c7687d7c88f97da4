//! Evidence that waits for better evidence, while other things happen.

use super::*;

#[test]
fn a_link_that_is_reported_again_and_again_is_one_suspicion() {
    let mut membership = running();
    for _ in 0..1000 {
        assert_eq!(report(&mut membership, 2.0, 1, broken(1)), []);
    }
    assert_eq!(tick(&mut membership, 2.3), [announced(2, &THREE)]);
    assert_eq!(tick(&mut membership, 2.3), []);
}

#[test]
fn a_broken_link_is_not_forgotten_when_a_worker_comes() {
    let mut membership = running();
    assert_eq!(report(&mut membership, 2.0, 1, broken(1)), []);
    let ring = [(1, "b"), (3, "b"), (2, "a"), (4, "c")];
    let effects = join(&mut membership, 2.1, 4, "c");
    assert_eq!(effects, [joined(4, "c", 4), planned(2, &ring)]);
    assert_eq!(tick(&mut membership, 2.3), [announced(3, &ring)]);
    assert_eq!(pass(&mut membership, 2.4, 10.0, &[1, 2, 3, 4]), []);
}

#[test]
fn a_closed_watch_is_not_forgotten_when_another_worker_is_lost() {
    let mut membership = running();
    assert_eq!(close_watch(&mut membership, 2.0, 3), []);
    assert_eq!(leave(&mut membership, 2.1, 1, "").len(), 2);
    assert_eq!(
        tick(&mut membership, 4.0),
        [
            lost(0, 3, "b", 7, Evidence::WatchClosed),
            announced(3, &[(2, "a")])
        ]
    );
}

#[test]
fn a_watch_that_was_not_opened_yet_shows_nothing() {
    let past = Past {
        generation: 5,
        members: THREE
            .iter()
            .map(|&(worker, host)| candidate(worker, host))
            .collect(),
        is_at_work: true,
        ..Past::default()
    };
    let mut membership = Membership::resume(terms(3), past, Duration::ZERO);
    hear_from(&mut membership, 1.0, &[1, 2, 3]);
    join(&mut membership, 1.0, 1, "b");
    // Worker 3 has not come back yet when worker 1 says that their link broke in the meantime.
    assert_eq!(report(&mut membership, 1.1, 1, broken(1)), []);
    assert_eq!(tick(&mut membership, 1.4), [announced(6, &THREE)]);
    assert_eq!(membership.losses, 0);
}

#[test]
fn what_was_suspected_of_a_worker_that_has_said_goodbye_since_is_forgotten() {
    let mut membership = running();
    let ring = [(3, "b"), (2, "a")];
    assert_eq!(
        report(&mut membership, 2.0, 1, Report::DrainRequested),
        [planned(2, &ring)]
    );
    assert_eq!(close_watch(&mut membership, 2.1, 1), []);
    assert_eq!(leave(&mut membership, 2.2, 1, "asked to end").len(), 1);
    hear_from(&mut membership, 4.0, &[2, 3]);
    assert_eq!(membership.next_deadline(), Some(seconds(4.1)));
    assert_eq!(tick(&mut membership, 4.1), []);
    assert_eq!(membership.next_deadline(), Some(seconds(8.5)));
}
