//! A pool of threads whose results come out in the order of the jobs.
//!
//! Threads take jobs in order; a result waits until all earlier ones were taken. A thread takes a job only while fewer
//! than `queue` results are ready or in work, which bounds memory. Dropping the pool stops the threads: each finishes at
//! most the part of a job that it is at.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{LoaderConfig, LoaderError};

/// What a worker returns: a result, or `None` when it stopped because the pool is being dropped.
pub(super) type Outcome<R> = Option<Result<R, LoaderError>>;

pub(super) struct OrderedPool<J, R> {
    shared: Arc<Shared<J, R>>,
    threads: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static, R: Send + 'static> OrderedPool<J, R> {
    /// Starts the threads. `worker` makes each thread's own function from job to result; the function looks at the stop
    /// flag from time to time.
    pub(super) fn start<W>(
        jobs: impl Iterator<Item = J> + Send + 'static,
        config: LoaderConfig,
        worker: impl Fn() -> W,
    ) -> Self
    where
        W: FnMut(J, &AtomicBool) -> Outcome<R> + Send + 'static,
    {
        let state = State {
            jobs: Box::new(jobs.fuse()),
            taken: 0,
            delivered: 0,
            ready: BTreeMap::new(),
            exhausted: false,
            panicked: false,
        };
        let shared = Arc::new(Shared {
            queue: config.queue.get() as u64,
            state: Mutex::new(state),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let threads = (0..config.threads.get()).map(|_| {
            let (shared, mut work) = (Arc::clone(&shared), worker());
            thread::spawn(move || {
                let _reporter = PanicReporter(&shared);
                while let Some((number, job)) = shared.take_job() {
                    let Some(result) = work(job, &shared.stop) else {
                        break;
                    };
                    shared.lock().ready.insert(number, result);
                    shared.changed.notify_all();
                }
            })
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// The next result, in the order of the jobs; `None` after the last.
    pub(super) fn next(&mut self) -> Option<Result<R, LoaderError>> {
        let mut state = self.shared.lock();
        loop {
            let wanted = state.delivered;
            if let Some(result) = state.ready.remove(&wanted) {
                state.delivered += 1;
                drop(state);
                self.shared.changed.notify_all();
                return Some(result);
            }
            if state.panicked {
                return Some(Err(LoaderError::Panicked));
            }
            if state.exhausted && wanted == state.taken {
                return None;
            }
            // A thread either delivers, or reports that it panicked: this wait ends.
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<J, R> Drop for OrderedPool<J, R> {
    fn drop(&mut self) {
        // Set under the lock, so that no thread is between looking at the flag and falling asleep.
        let state = self.shared.lock();
        self.shared.stop.store(true, Ordering::Relaxed);
        drop(state);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was reported through the state already.
            let _ = thread.join();
        }
    }
}

struct Shared<J, R> {
    queue: u64,
    state: Mutex<State<J, R>>,
    /// Any change of the state.
    changed: Condvar,
    stop: AtomicBool,
}

struct State<J, R> {
    jobs: Box<dyn Iterator<Item = J> + Send>,
    /// Number of jobs handed to threads.
    taken: u64,
    /// Number of results handed to the consumer.
    delivered: u64,
    ready: BTreeMap<u64, Result<R, LoaderError>>,
    exhausted: bool,
    panicked: bool,
}

impl<J, R> Shared<J, R> {
    fn lock(&self) -> MutexGuard<'_, State<J, R>> {
        // Only a panicking job iterator can poison the lock, and the state is whole before it is asked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room and takes a job; `None` when there is none or the pool stops.
    fn take_job(&self) -> Option<(u64, J)> {
        let mut state = self.lock();
        loop {
            if self.stop.load(Ordering::Relaxed) || state.exhausted || state.panicked {
                return None;
            }
            if state.taken < state.delivered + self.queue {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(job) = state.jobs.next() else {
            state.exhausted = true;
            self.changed.notify_all();
            return None;
        };
        state.taken += 1;
        Some((state.taken - 1, job))
    }
}

/// Tells the consumer when a thread panics, so that it does not wait for ever.
struct PanicReporter<'a, J, R>(&'a Shared<J, R>);

impl<J, R> Drop for PanicReporter<'_, J, R> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().panicked = true;
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, sync::atomic::AtomicUsize, time::Duration};

    use super::*;

    fn config(threads: usize, queue: usize) -> LoaderConfig {
        LoaderConfig {
            threads: NonZeroUsize::new(threads).unwrap(),
            queue: NonZeroUsize::new(queue).unwrap(),
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        for (threads, queue) in [(1, 1), (2, 1), (3, 8), (8, 3)] {
            let mut pool = OrderedPool::start(0..100u64, config(threads, queue), || {
                |job: u64, _: &AtomicBool| {
                    // Later jobs are often done first.
                    thread::sleep(Duration::from_micros(job * 7919 % 300));
                    Some(Ok(job * job))
                }
            });
            for expected in 0..100 {
                assert_eq!(pool.next(), Some(Ok(expected * expected)));
            }
            assert_eq!(pool.next(), None);
            assert_eq!(pool.next(), None);
        }
    }

    #[test]
    fn no_more_than_the_queue_is_made_ahead() {
        let started = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&started);
        let mut pool = OrderedPool::start(0.., config(4, 3), move || {
            let counter = Arc::clone(&counter);
            move |job: u64, _: &AtomicBool| {
                counter.fetch_add(1, Ordering::SeqCst);
                Some(Ok(job))
            }
        });
        for taken in 1..20 {
            pool.next();
            assert!(started.load(Ordering::SeqCst) <= taken + 3);
        }
    }

    #[test]
    fn dropping_ends_an_endless_pool() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let mut pool = OrderedPool::start(0.., config(3, 2), move || {
            let held = Arc::clone(&held);
            move |job: u64, _: &AtomicBool| Some(Ok((job, Arc::clone(&held))))
        });
        pool.next();
        drop(pool);
        assert_eq!(Arc::strong_count(&alive), 1, "threads, queue and worker are gone");
    }

    #[test]
    fn a_panic_is_an_error_and_not_a_hang() {
        let mut pool = OrderedPool::start(0..10u64, config(2, 4), || {
            |job: u64, _: &AtomicBool| {
                assert!(job < 3, "on purpose");
                Some(Ok(job))
            }
        });
        let results: Vec<_> = (0..4).map(|_| pool.next().unwrap()).collect();
        assert_eq!(results, [Ok(0), Ok(1), Ok(2), Err(LoaderError::Panicked)]);
    }

    #[test]
    fn a_panicking_job_iterator_is_an_error_too() {
        let jobs = (0..10u64).inspect(|job| assert!(*job < 2, "on purpose"));
        let mut pool = OrderedPool::start(jobs, config(2, 4), || |job: u64, _: &AtomicBool| Some(Ok(job)));
        let results: Vec<_> = (0..3).map(|_| pool.next().unwrap()).collect();
        assert_eq!(results, [Ok(0), Ok(1), Err(LoaderError::Panicked)]);
    }
}
