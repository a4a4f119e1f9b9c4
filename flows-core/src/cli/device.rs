//! The device and the threads that a program computes on.

use crate::train::Ranks;
use crate::{Error, Result};
use candle_core::Device;
use clap::Args;
use std::{env, fmt, fs, str::FromStr, thread};

/// The name of a device: `cpu`, `cuda`, `cuda:1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, counted from 0.
    Cuda(usize),
}

impl DeviceName {
    /// Opens the device.
    ///
    /// # Errors
    /// When the program was built without support for it, or the machine has no such device.
    pub fn open(self) -> Result<Device> {
        let Self::Cuda(ordinal) = self else { return Ok(Device::Cpu) };
        if !cfg!(feature = "cuda") {
            return Err(Error::Config(
                "this program was built without cuda; build it with `--features cuda`, or use `--device cpu`".into(),
            ));
        }
        let device = Device::new_cuda(ordinal);
        device.map_err(|e| Error::Config(format!("the device {self} cannot be used ({e}); try `--device cpu`")))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let ordinal = text.strip_prefix("cuda:").and_then(|n| n.parse().ok());
        match (text, ordinal) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(ordinal)) => Ok(Self::Cuda(ordinal)),
            _ => Err(Error::Config(format!("there is no device `{text}`: give cpu, cuda or cuda:1"))),
        }
    }
}

/// The device and the number of threads.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// Compute on cpu, cuda, cuda:1, ...
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: DeviceName,
    /// Threads to compute with [default: all cores, divided among the ranks of a machine]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
}

impl DeviceArgs {
    /// These arguments for one of several ranks: unless `--threads` or `RAYON_NUM_THREADS` is given, it gets its share
    /// of the cores that it may run on, divided among the ranks of its machine that may run on the same cores.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn of(self, ranks: &Ranks) -> Result<Self> {
        if ranks.size() == 1 || self.threads.is_some() || env::var_os("RAYON_NUM_THREADS").is_some() {
            return Ok(self);
        }
        let places = ranks.all(place())?;
        let sharing = places.iter().filter(|place| **place == places[ranks.rank()]).count();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { threads: Some((cores / sharing).max(1)), ..self })
    }

    /// Sets the number of threads of the process and opens the device.
    ///
    /// # Errors
    /// Same as [`DeviceName::open`], and when the number of threads is 0, above 1024, or already set.
    pub fn open(&self) -> Result<Device> {
        if let Some(threads) = self.threads {
            if !(1..=1024).contains(&threads) {
                return Err(Error::Config(format!(
                    "cannot compute with {threads} threads: give `--threads` from 1 to 1024"
                )));
            }
            // Both the kernels and the matrix products use this pool.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
            pool.map_err(|e| Error::Config(format!("cannot start {threads} threads ({e}); omit `--threads`")))?;
        }
        self.device.open()
    }
}

/// A key of this machine and the cores that this process may run on; the same for all ranks on systems other than
/// Linux, where the cores are not known.
fn place() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let cores = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap_or_default();
    read("/proc/sys/kernel/hostname") + cores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (text, device) in [("cpu", DeviceName::Cpu), ("cuda:3", DeviceName::Cuda(3))] {
            assert_eq!((text.parse::<DeviceName>().unwrap(), device.to_string()), (device, text.to_string()));
        }
        assert_eq!("cuda".parse::<DeviceName>().unwrap(), DeviceName::Cuda(0));
        for text in ["", "gpu", "cuda:", "cuda:x", "CPU", "metal"] {
            assert!(text.parse::<DeviceName>().unwrap_err().to_string().contains("cuda:1"), "{text}");
        }
        assert!(DeviceName::Cpu.open().unwrap().is_cpu());
        #[cfg(not(feature = "cuda"))]
        assert!(DeviceName::Cuda(0).open().unwrap_err().to_string().contains("--features cuda"));
    }
}
