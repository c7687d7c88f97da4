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
