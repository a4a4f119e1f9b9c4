//! The program `waveglow`: audio.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::FAILURE
}
