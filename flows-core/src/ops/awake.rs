//! A second thread that stays awake between two operations.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// For how long a thread waits for another operation before it goes to sleep. Between two operations of a backward pass
/// candle works for some 50 us on one thread, and a core that sleeps takes as long to wake up.
const LINGER: Duration = Duration::from_micros(200);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Until when, in nanoseconds since [`START`].
static UNTIL: AtomicU64 = AtomicU64::new(0);
static LINGERS: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Operations that this thread is in.
    static WITHIN: Cell<u32> = const { Cell::new(0) };
}

/// Runs an operation, after which a second thread of the pool stays awake for a moment, if it has nothing else to do.
pub(super) fn awake<R>(operation: impl FnOnce() -> R) -> R {
    WITHIN.set(WITHIN.get() + 1);
    let result = operation();
    WITHIN.set(WITHIN.get() - 1);
    let alone = rayon::current_num_threads() == 1 || rayon::current_thread_index().is_none();
    if !alone {
        UNTIL.store((START.elapsed() + LINGER).as_nanos() as u64, Ordering::Relaxed);
        if !LINGERS.swap(true, Ordering::AcqRel) {
            rayon::spawn(linger);
        }
    }
    result
}

fn linger() {
    // A thread that waits for a part of its own operation would be kept from going on.
    while WITHIN.get() == 0 && START.elapsed().as_nanos() < u128::from(UNTIL.load(Ordering::Relaxed)) {
        // Takes on what other threads offer.
        if rayon::yield_now() != Some(rayon::Yield::Executed) {
            std::hint::spin_loop();
        }
    }
    LINGERS.store(false, Ordering::Release);
}
