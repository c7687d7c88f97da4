//! Loops over flat vectors on several threads.
//!
//! Each value is computed from those at its own place, so that its bits do not depend on how many threads there are. Sums over a
//! vector, whose bits would, are not for here. Threads are started for each call: it takes tens of microseconds, where a loop over the
//! parameters of the smallest model takes a millisecond.

use std::num::NonZeroUsize;
use std::thread;

/// Does all jobs; each thread has a run of them, of about the same length.
pub(super) fn on_threads<J: Send>(
    threads: NonZeroUsize,
    mut jobs: Vec<J>,
    length: impl Fn(&J) -> usize,
    work: impl Fn(J) + Sync,
) {
    let part = jobs.iter().map(&length).sum::<usize>() / threads;
    thread::scope(|scope| {
        for _ in 1..threads.get() {
            let mut taken = 0;
            let first = jobs.iter().rposition(|job| {
                taken += length(job);
                taken >= part
            });
            let last = jobs.split_off(first.unwrap_or(0));
            scope.spawn(|| last.into_iter().for_each(&work));
        }
        jobs.into_iter().for_each(&work);
    });
}

/// Returns how many of `threads` are worth starting for a vector of so many values.
pub(super) fn worth_starting(threads: NonZeroUsize, values: usize) -> NonZeroUsize {
    NonZeroUsize::new(values / VALUES_A_THREAD).map_or(NonZeroUsize::MIN, |most| threads.min(most))
}

/// A loop over so many takes a few times as long as it takes to start a thread.
const VALUES_A_THREAD: usize = 1 << 18;

/// Cuts a vector into parts for so many threads at most, all of one length but for the last.
pub(super) fn parts<T>(threads: NonZeroUsize, values: &[T]) -> impl Iterator<Item = &[T]> {
    values.chunks(part_len(threads, values.len()))
}

/// The same, to write to.
pub(super) fn parts_mut<T>(threads: NonZeroUsize, values: &mut [T]) -> impl Iterator<Item = &mut [T]> {
    values.chunks_mut(part_len(threads, values.len()))
}

fn part_len(threads: NonZeroUsize, len: usize) -> usize {
    len.div_ceil(threads.get()).max(1)
}

/// Cuts a vector into tensors of these lengths, one behind the other.
///
/// # Panics
/// When the vector is shorter.
pub(super) fn tensors_mut<T>(mut values: &mut [T], lengths: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    lengths
        .map(|length| {
            let (tensor, rest) = std::mem::take(&mut values).split_at_mut(length);
            values = rest;
            tensor
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_whatever_the_number_of_threads() {
        for threads in (1..9).filter_map(NonZeroUsize::new) {
            for lengths in [
                &[][..],
                &[0],
                &[7],
                &[1, 2, 3, 4, 5],
                &[0, 0, 9, 0, 1, 1],
                &[5; 40],
            ] {
                let mut values = vec![0; lengths.iter().sum()];
                let jobs = tensors_mut(&mut values, lengths.iter().copied());
                on_threads(
                    threads,
                    jobs,
                    |job| job.len(),
                    |job| job.iter_mut().for_each(|value| *value += 1),
                );
                assert!(values.iter().all(|&value| value == 1), "{lengths:?} on {threads}");
            }
        }
    }

    #[test]
    fn each_thread_has_its_share() {
        let threads = NonZeroUsize::new(3).unwrap();
        let seen = std::sync::Mutex::new(Vec::new());
        let note = |_| seen.lock().unwrap().push(thread::current().id());
        on_threads(threads, vec![(); 12], |()| 1, note);
        let seen = seen.into_inner().unwrap();
        let here = seen.iter().filter(|&&id| id == thread::current().id()).count();
        assert_eq!((seen.len(), here), (12, 4));
    }

    #[test]
    fn few_values_are_not_worth_many_threads() {
        let threads = NonZeroUsize::new(64).unwrap();
        let started = |values| worth_starting(threads, values).get();
        assert_eq!(
            [0, 1000, 3 << 18, 64 << 18, 100 << 18].map(started),
            [1, 1, 3, 64, 64]
        );
    }

    #[test]
    fn parts_are_all_of_a_vector_and_no_more_than_threads() {
        let three = NonZeroUsize::new(3).unwrap();
        for len in 0..20 {
            let mut values: Vec<usize> = (0..len).collect();
            assert!(parts_mut(three, &mut values).count() <= 3);
            assert_eq!(
                parts(three, &values).flatten().copied().collect::<Vec<_>>(),
                values
            );
        }
    }
}
