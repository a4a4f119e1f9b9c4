//! Loops compiled for the vector instructions that the machine turns out to have.

use super::cpu::Real;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Runs `f`, whose loops are compiled for AVX-512, for AVX2 and for the least the target has, and
/// taken in the widest form that the processor knows.
///
/// `f` and all that it calls must be inlined for that: write `#[inline(always)]` before closures and
/// functions, and `for` loops, not `for_each`. The result is the same to the bit in all three, since Rust never contracts `a * b + c`.
#[inline]
pub fn dispatch<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl") {
            // SAFETY: the processor has what the function is compiled for, as was just asked.
            return unsafe { avx512(f) };
        }
        if has!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2(f) };
        }
    }
    f()
}

// The compiler clears the upper halves of the registers on the way out of both.

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
fn avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// The elements that one task works on: enough to pay for it, few enough for the first-level cache.
pub(crate) const CHUNK: usize = 8192;

/// `f` of every element, in vector registers and on all threads.
#[inline]
pub(crate) fn map<T: Real>(x: &[T], f: impl Fn(T) -> T + Copy + Sync) -> Vec<T> {
    written(x.len(), &|start, out| {
        let x = &x[start..start + out.len()];
        dispatch(
            #[inline(always)]
            || {
                // A copy, so that what `f` has captured stays in registers.
                let f = f;
                for (y, &x) in out.iter_mut().zip(x) {
                    y.write(f(x));
                }
            },
        );
    })
}

/// The same in place.
#[inline]
pub(crate) fn map_in_place<T: Real>(x: &mut [T], f: impl Fn(T) -> T + Sync) {
    chunks(x, CHUNK, &|_, x: &mut [T]| {
        dispatch(
            #[inline(always)]
            || {
                for x in x {
                    *x = f(*x);
                }
            },
        );
    });
}

/// `f` of every pair of elements of two slices of one length, in vector registers and on all threads.
#[inline]
pub(crate) fn zip_map<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> T + Copy + Sync) -> Vec<T> {
    written(a.len(), &|start, out| {
        let [a, b] = [a, b].map(|slice| &slice[start..start + out.len()]);
        dispatch(
            #[inline(always)]
            || {
                let f = f;
                for (y, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
                    y.write(f(a, b));
                }
            },
        );
    })
}

/// The same in the place of the first.
#[inline]
pub(crate) fn zip_map_in_place<T: Real>(a: &mut [T], b: &[T], f: impl Fn(T, T) -> T + Sync) {
    chunks(a, CHUNK, &|start, a: &mut [T]| {
        dispatch(
            #[inline(always)]
            || {
                for (a, &b) in a.iter_mut().zip(&b[start..]) {
                    *a = f(*a, b);
                }
            },
        );
    });
}

/// The `len` elements that `write` writes, all of each part: memory is not cleared first, which one thread would do.
fn written<T: Real>(len: usize, write: &(dyn Fn(usize, &mut [MaybeUninit<T>]) + Sync)) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    chunks(&mut out.spare_capacity_mut()[..len], CHUNK, write);
    // SAFETY: the parts are all of the first `len` elements, for which there is room, and the functions above write
    // each element of a part: their loops go over slices of its length.
    unsafe { out.set_len(len) };
    out
}

/// The `len` elements that `write` writes, of which it returns how many it has written, each once: memory is not cleared
/// first, which one thread would do.
pub(crate) fn filled<T: Real>(len: usize, write: impl FnOnce(&mut [MaybeUninit<T>]) -> usize) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    assert_eq!(write(&mut out.spare_capacity_mut()[..len]), len, "an operation left out a part of its result");
    // SAFETY: as many different elements as there are have been written.
    unsafe { out.set_len(len) };
    out
}

/// Calls `f` with the parts of `out`, of `size` elements, and where they begin, on all threads; the
/// parts are the same for any number of threads.
pub(crate) fn chunks<T: Send>(out: &mut [T], size: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    // Four parts are not worth waking another thread.
    if out.len() <= 4 * size {
        return f(0, out);
    }
    out.par_chunks_mut(size).enumerate().for_each(|(i, out)| f(i * size, out));
}
