//! Loops compiled for several sets of vector instructions, of which one is chosen at run time.

use super::cpu::Real;
use crate::{Error, Result};
use rayon::prelude::*;
use std::env;
use std::mem::MaybeUninit;
use std::sync::LazyLock;

/// The environment variable that names the vector instructions to use.
const VARIABLE: &str = "FLOWS_SIMD";

/// The vector instructions that the kernels of this workspace use.
///
/// By default they are the widest that the processor has. The environment variable `FLOWS_SIMD`, read once, names
/// others: `avx512`, `avx2`, `neon` or `plain`. It is for tests and measurements; results are the same to the bit.
///
/// It does not affect matrix products: gemm (behind candle's products and convolutions) and faer (behind
/// [`product`](super::kernel::product)) choose their vector instructions themselves. candle's own element-wise
/// operations are compiled for those of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simd {
    /// AVX-512 (F, BW, CD, DQ and VL), on x86-64.
    Avx512,
    /// AVX2, on x86-64.
    Avx2,
    /// NEON, on 64-bit ARM, where every processor has it.
    Neon,
    /// Those that every processor of the target has: SSE2 on x86-64.
    Plain,
}

impl Simd {
    const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Plain];

    /// The instructions that kernels use: the widest that the processor has, or those that `FLOWS_SIMD` names.
    ///
    /// ```
    /// use flows_core::ops::Simd;
    /// assert!(Simd::available().contains(&Simd::chosen()?));
    /// # Ok::<(), flows_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// When `FLOWS_SIMD` is not one of the names, or the processor lacks the instructions. Programs end with this
    /// error; kernels, which cannot, warn once on standard error and use the widest.
    pub fn chosen() -> Result<Self> {
        static CHOSEN: LazyLock<std::result::Result<Simd, String>> = LazyLock::new(|| match env::var_os(VARIABLE) {
            None => Ok(Simd::widest()),
            Some(name) => Simd::named(&name.to_string_lossy()).map_err(|error| error.to_string()),
        });
        CHOSEN.clone().map_err(Error::Config)
    }

    /// The instructions that the processor has, the widest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|simd| simd.is_available()).collect()
    }

    /// The name that `FLOWS_SIMD` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Plain => "plain",
        }
    }

    fn widest() -> Self {
        Self::ALL.into_iter().find(|simd| simd.is_available()).unwrap_or(Self::Plain)
    }

    fn named(name: &str) -> Result<Self> {
        let names = Self::available().iter().map(|simd| simd.name()).collect::<Vec<_>>().join(", ");
        let why = match Self::ALL.into_iter().find(|simd| simd.name() == name) {
            Some(simd) if simd.is_available() => return Ok(simd),
            Some(_) => "this processor does not have these instructions",
            None => "no instructions have this name",
        };
        Err(Error::Config(format!("{VARIABLE}={name}: {why}; unset it, or choose one of {names}")))
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        match self {
            Self::Avx512 => {
                has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl")
            }
            Self::Avx2 => has!("avx2"),
            Self::Neon => false,
            Self::Plain => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        match self {
            Self::Avx512 | Self::Avx2 => false,
            Self::Neon => cfg!(target_feature = "neon"),
            // Where every processor has NEON, there is nothing below it.
            Self::Plain => !cfg!(target_feature = "neon"),
        }
    }

    /// The instructions that [`dispatch`] uses.
    #[inline]
    fn in_use() -> Self {
        static IN_USE: LazyLock<Simd> = LazyLock::new(|| {
            Simd::chosen().unwrap_or_else(|error| {
                eprintln!("warning: {error}");
                Simd::widest()
            })
        });
        *IN_USE
    }

    /// Runs `f` with these instructions.
    ///
    /// # Safety
    /// The processor must have them.
    #[inline]
    unsafe fn run<R>(self, f: impl FnOnce() -> R) -> R {
        match self {
            // SAFETY: the processor has the instructions, as the caller guarantees.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512(f) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2(f) },
            _ => f(),
        }
    }
}

/// Runs `f`, whose loops are compiled three times, for AVX-512, for AVX2 and for every processor of the target, in the
/// form for the instructions that [`Simd::chosen`] returns.
///
/// This requires that `f` and everything it calls are inlined: write `#[inline(always)]` before closures and
/// functions, and `for` loops, not `for_each`. The result is the same to the bit in all three, because Rust never
/// contracts `a * b + c`.
#[inline]
pub fn dispatch<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: the choice is made by `widest` or `named`, which check what the processor has.
    unsafe { Simd::in_use().run(f) }
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

/// The elements that one task works on: enough to be worth a task, few enough for the first-level cache.
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
                #[allow(clippy::redundant_locals)]
                let f = f;
                for (y, &x) in out.iter_mut().zip(x) {
                    y.write(f(x));
                }
            },
        );
    })
}

/// [`map`] in place.
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
                #[allow(clippy::redundant_locals)]
                let f = f;
                for (y, (&a, &b)) in out.iter_mut().zip(a.iter().zip(b)) {
                    y.write(f(a, b));
                }
            },
        );
    })
}

/// [`zip_map`] in the place of the first slice.
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

/// The `len` elements that `write` writes, which must write all of each part. The memory is not cleared first, which
/// would be done by one thread.
fn written<T: Real>(len: usize, write: &(dyn Fn(usize, &mut [MaybeUninit<T>]) + Sync)) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    chunks(&mut out.spare_capacity_mut()[..len], CHUNK, write);
    // SAFETY: the parts make up the first `len` elements, for which there is room, and the functions above write
    // each element of a part: their loops run over slices of its length.
    unsafe { out.set_len(len) };
    out
}

/// The `len` elements that `write` writes, each of them once; it returns how many it has written. The memory is not
/// cleared first, which would be done by one thread.
pub(crate) fn filled<T: Real>(len: usize, write: impl FnOnce(&mut [MaybeUninit<T>]) -> usize) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    assert_eq!(write(&mut out.spare_capacity_mut()[..len]), len, "an operation did not write all of its result");
    // SAFETY: `len` different elements have been written, which is all of them.
    unsafe { out.set_len(len) };
    out
}

/// Calls `f` with the start of each part of `out`, of `size` elements, and the part, on all threads; the parts do not
/// depend on the number of threads.
pub(crate) fn chunks<T: Send>(out: &mut [T], size: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    // Four parts or fewer are not worth waking another thread.
    if out.len() <= 4 * size {
        return f(0, out);
    }
    out.par_chunks_mut(size).enumerate().for_each(|(i, out)| f(i * size, out));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn names_that_are_not_available_are_errors() {
        let available = Simd::available();
        assert_eq!(available.first(), Some(&Simd::widest()));
        for simd in Simd::ALL {
            match Simd::named(simd.name()) {
                Ok(named) => assert!(named == simd && available.contains(&simd)),
                Err(error) => {
                    let said = error.to_string();
                    let names = available.iter().all(|simd| said.contains(simd.name()));
                    assert!(!available.contains(&simd) && names && said.contains("this processor does not"), "{said}");
                }
            }
        }
        for name in ["", "AVX2", "sse"] {
            let error = Simd::named(name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("FLOWS_SIMD={name}: no instructions have this name")), "{error}");
        }
    }

    #[test]
    fn paths_agree_to_the_bit() {
        let x: Vec<f64> = (0..4099).map(|i| 0.01 * f64::from(i) - 20.0).collect();
        let single: Vec<f32> = x.iter().map(|x| *x as f32).collect();
        #[inline(always)]
        fn values<T: Real>(x: &[T], out: &mut [T]) {
            for (y, &x) in out.iter_mut().zip(x) {
                let smooth = x.fast_exp() + x.fast_tanh() * x.fast_sigmoid() + x.fast_softplus();
                *y = smooth * x + x.fast_erf() + x.abs().fast_ln_1p() + x.fast_silu();
            }
        }
        let run = |simd: Simd| {
            let (mut of_x, mut of_single) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            // SAFETY: the instructions are available.
            unsafe {
                simd.run(
                    #[inline(always)]
                    || {
                        values(&x, &mut of_x);
                        values(&single, &mut of_single);
                    },
                );
            }
            let bits = of_x.into_iter().map(f64::to_bits);
            bits.chain(of_single.into_iter().map(|y| u64::from(y.to_bits()))).collect::<Vec<_>>()
        };
        let plain = run(*Simd::available().last().expect("one is always available"));
        assert!(Simd::available().into_iter().all(|simd| run(simd) == plain));
    }

    /// Runs the tests of operations again for every set of instructions but the widest, in a process each.
    #[test]
    fn operations_pass_on_every_path() {
        let this = env::current_exe().expect("the tests' own program");
        for simd in Simd::available().into_iter().filter(|simd| *simd != Simd::in_use()) {
            let mut tests = Command::new(&this);
            tests.args(["ops::", "nn::", "--skip", "on_every_path"]).env(VARIABLE, simd.name());
            let output = tests.output().expect("the tests' own program starts");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && !said.contains(" 0 passed"), "{}: {said}", simd.name());
        }
    }

    /// Prints what this process uses, for the test below.
    #[test]
    fn path() {
        dispatch(|| ());
        println!("path: {:?}, {:?}", Simd::chosen().ok(), Simd::in_use());
    }

    #[test]
    fn the_variable_is_obeyed_on_every_path() {
        let this = env::current_exe().expect("the tests' own program");
        let names = Simd::available().into_iter().map(|simd| (simd.name(), Some(simd)));
        for (name, chosen) in names.chain([("sse9", None)]) {
            let mut test = Command::new(&this);
            test.args(["ops::simd::tests::path", "--exact", "--nocapture"]).env(VARIABLE, name);
            let output = test.output().expect("the tests' own program starts");
            let [said, warned] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            let want = format!("path: {chosen:?}, {:?}", chosen.unwrap_or_else(Simd::widest));
            assert!(output.status.success() && said.contains(&want), "{name}: {said}");
            assert_eq!(warned.matches("warning: FLOWS_SIMD=sse9").count(), usize::from(chosen.is_none()), "{warned}");
        }
    }
}
