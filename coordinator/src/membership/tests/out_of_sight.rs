//! Members that may be at work although nobody hears them.

use super::*;

/// All members fall silent, and a newcomer comes, at 6 s.
fn blind() -> Membership {
    let mut membership = running();
    for now in [5.5, 5.6, 5.7] {
        tick(&mut membership, now);
    }
    assert_eq!(membership.roster(), None);
    let effects = join(&mut membership, 6.0, 4, "c");
    let remind = Effect::Remind {
        present: vec![present(4, "c")],
        missing: 0,
        out_of_sight: 3,
    };
    assert_eq!(effects, [joined(4, "c", 1), remind]);
    membership
}

fn begun(effects: &[Effect]) -> Option<Vec<WorkerId>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Announce(roster) => Some(roster.members().iter().map(|member| member.worker).collect()),
        _ => None,
    })
}

#[test]
fn a_newcomer_alone_waits_until_those_out_of_sight_have_paused() {
    let mut membership = blind();
    let effects = pass(&mut membership, 6.0, 60.0, &[4]);
    assert_eq!(begun(&effects), None);
    assert_eq!(membership.roster(), None);
    // They were last heard at 1 s.
    let effects = pass(&mut membership, 61.0, 61.0, &[4]);
    assert_eq!(begun(&effects), Some(vec![WorkerId::from_u128(4)]));
}

#[test]
fn one_that_comes_back_has_left_its_generation() {
    let mut membership = blind();
    // When it was missed, a generation without it was announced: the others may be in that.
    assert_eq!(begun(&join(&mut membership, 7.0, 1, "b")), None);
    // The last that was missed is in all of them.
    let effects = join(&mut membership, 7.1, 3, "b");
    let ring = begun(&effects).expect("a generation");
    assert_eq!(ring.len(), 3, "{ring:?}");
}

#[test]
fn another_process_at_its_address_shows_that_one_has_ended() {
    let mut membership = blind();
    let successor = Candidate {
        worker: WorkerId::from_u128(5),
        ..candidate(2, "a")
    };
    let effects = membership.handle(seconds(7.0), Event::Joined(successor)).unwrap();
    // Without it, neither the first generation nor the ones that were announced after it can progress, but for those
    // without it.
    assert_eq!(begun(&effects), None);
    let successor = Candidate {
        worker: WorkerId::from_u128(6),
        ..candidate(1, "b")
    };
    let first = membership.handle(seconds(7.0), Event::Joined(successor)).unwrap();
    let successor = Candidate {
        worker: WorkerId::from_u128(7),
        ..candidate(3, "b")
    };
    let second = membership.handle(seconds(7.0), Event::Joined(successor)).unwrap();
    let ring = begun(&first).or_else(|| begun(&second));
    assert!(ring.is_some(), "{first:?} {second:?}");
}

#[test]
fn a_member_that_is_known_to_be_dead_leaves_nothing_out_of_sight() {
    let mut membership = running();
    close_watch(&mut membership, 2.0, 1);
    // Its links are gone with its connection.
    report(&mut membership, 2.1, 3, broken(0));
    assert_eq!(membership.generation(), Generation(2));
    for (worker, watch) in [(2, 2), (3, 3)] {
        close_watch_number(&mut membership, 3.0, worker, watch);
    }
    while membership.roster().is_some() {
        tick(&mut membership, 5.4);
    }
    let effects = join(&mut membership, 6.0, 4, "c");
    assert_eq!(begun(&effects), Some(vec![WorkerId::from_u128(4)]));
}

#[test]
fn a_process_that_is_found_dead_is_waited_for_no_longer() {
    let mut membership = blind();
    let found = |membership: &mut Membership, worker| {
        let worker = WorkerId::from_u128(worker);
        membership
            .handle(seconds(7.0), Event::FoundDead { worker })
            .unwrap()
    };
    assert_eq!(membership.out_of_sight().len(), 3);
    assert_eq!(begun(&found(&mut membership, 1)), None);
    assert_eq!(
        begun(&found(&mut membership, 3)),
        Some(vec![WorkerId::from_u128(4)])
    );
}
