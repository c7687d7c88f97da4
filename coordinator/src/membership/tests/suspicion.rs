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
