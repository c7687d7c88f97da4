//! What happens to files on their way: bits flip, ends are lost, parts are repeated or moved, lengths become huge.
//!
//! Included by path in the tests of several crates: one that they could depend on would drag burn into all of them.

use proptest::prelude::*;
use proptest::sample::Index;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    /// A part is put over, or into, another place.
    Splice {
        from: Index,
        bytes: usize,
        to: Index,
        is_over: bool,
    },
    /// A number that could be a length: all of its bytes, in both orders.
    Length(Index, Vec<u8>),
    Remove(Index, usize),
}

/// One to five of them.
pub(crate) fn any_mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let at = any::<Index>;
    let length = prop_oneof![
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        Just(1 << 63),
        Just(1 << 31),
        Just(0),
        any::<u64>(),
    ];
    let number = (
        length,
        prop_oneof![Just(2_usize), Just(4), Just(8)],
        any::<bool>(),
    )
        .prop_map(|(value, bytes, is_little)| {
            if is_little {
                value.to_le_bytes()[..bytes].to_vec()
            } else {
                value.to_be_bytes()[8 - bytes..].to_vec()
            }
        });
    let one = prop_oneof![
        (at(), 1..=255_u8).prop_map(|(at, mask)| Mutation::Flip(at, mask)),
        at().prop_map(Mutation::Cut),
        (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), 1_usize..100, at(), any::<bool>()).prop_map(|(from, bytes, to, is_over)| Mutation::Splice {
            from,
            bytes,
            to,
            is_over
        }),
        (at(), number).prop_map(|(at, number)| Mutation::Length(at, number)),
        (at(), 1_usize..50).prop_map(|(at, bytes)| Mutation::Remove(at, bytes)),
    ];
    prop::collection::vec(one, 1..6)
}

/// Returns the bytes after all of it; often, not always, others than before.
pub(crate) fn mutated(bytes: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for mutation in mutations {
        let len = bytes.len();
        if len == 0 {
            break;
        }
        match mutation {
            Mutation::Flip(at, mask) => bytes[at.index(len)] ^= mask,
            Mutation::Cut(at) => bytes.truncate(at.index(len)),
            Mutation::Insert(at, more) => {
                drop(bytes.splice(at.index(len)..at.index(len), more.iter().copied()))
            }
            Mutation::Splice {
                from,
                bytes: count,
                to,
                is_over,
            } => {
                let from = from.index(len);
                let part = bytes[from..len.min(from + count)].to_vec();
                let to = to.index(len);
                let end = if *is_over { len.min(to + part.len()) } else { to };
                bytes.splice(to..end, part);
            }
            Mutation::Length(at, number) => {
                let at = at.index(len);
                for (byte, digit) in bytes[at..].iter_mut().zip(number) {
                    *byte = *digit;
                }
            }
            Mutation::Remove(at, count) => {
                let at = at.index(len);
                bytes.drain(at..len.min(at + count));
            }
        }
    }
    bytes
}
