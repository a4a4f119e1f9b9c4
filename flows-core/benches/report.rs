//! What the benchmarks of this run measured, as a table and as one line of JSON.

use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where criterion keeps its measurements.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("criterion")
}

/// Prints the medians, in milliseconds, that were measured after `start`.
pub fn print(start: SystemTime) {
    let mut medians = Map::new();
    for entry in std::fs::read_dir(folder()).into_iter().flatten().flatten() {
        let file = entry.path().join("new/estimates.json");
        let fresh = file.metadata().and_then(|m| m.modified()).is_ok_and(|time| time >= start);
        let median = || -> Option<f64> {
            let estimates: Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
            estimates["median"]["point_estimate"].as_f64()
        };
        if let (true, Some(nanoseconds), Some(name)) = (fresh, median(), entry.file_name().to_str()) {
            medians.insert(name.to_string(), (nanoseconds / 1e6).into());
        }
    }
    println!("\n{:<24} median, ms", "workload");
    for (name, median) in &medians {
        println!("{name:<24} {:>10.3}", median.as_f64().unwrap_or(f64::NAN));
    }
    println!("{}", Value::Object(medians));
}
