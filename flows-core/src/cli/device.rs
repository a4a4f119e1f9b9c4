//! Where a program computes.

use crate::{Error, Result};
use candle_core::Device;
use clap::Args;
use std::{fmt, str::FromStr};

/// A device by name: `cpu`, `cuda`, `cuda:1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, counted from 0.
    Cuda(usize),
}

impl DeviceName {
    /// The device itself.
    ///
    /// # Errors
    /// When the program was built without support for it, or the machine has none.
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

/// Where to compute, and with how much.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// Compute on cpu, cuda, cuda:1, ...
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: DeviceName,
    /// Threads to compute with; all cores unless given
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
}

impl DeviceArgs {
    /// Sets the number of threads of the process, and gives the device.
    ///
    /// # Errors
    /// As [`DeviceName::open`], and when the threads are 0 or above 1024, or have been set before.
    pub fn open(&self) -> Result<Device> {
        if let Some(threads) = self.threads {
            if !(1..=1024).contains(&threads) {
                return Err(Error::Config(format!(
                    "{threads} threads cannot compute: give `--threads` from 1 to 1024"
                )));
            }
            // The kernels and the matrix products alike take their threads from this pool.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
            pool.map_err(|e| Error::Config(format!("{threads} threads cannot be had ({e}); leave out `--threads`")))?;
        }
        self.device.open()
    }
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
