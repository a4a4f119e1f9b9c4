//! What is mistyped in a config is an error before it takes memory.

use candle_core::{DType, Device};
use flows_core::flows::{FlowConfig, NamedFlow};
use flows_core::nn::Parameters;
use flows_core::{Config, Rng};
use peak_alloc::PeakAlloc;
use serde_json::Value;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Calls `f` with every number in `value` that is a whole one.
fn whole_numbers(value: &mut Value, path: &str, f: &mut dyn FnMut(&str, &mut Value)) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, v)| whole_numbers(v, &format!("{path}.{name}"), f)),
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(i, v)| whole_numbers(v, &format!("{path}.{i}"), f))
        }
        Value::Number(n) if n.is_u64() => f(path, value),
        _ => {}
    }
}

#[test]
fn mistyped_sizes_are_errors_before_they_take_memory() {
    const LIMIT: usize = 64 << 20;
    let mut refused = 0;
    let mut build = |what: String, config: Value| {
        // Some are refused as they are read.
        let Ok(config) = serde_json::from_value::<FlowConfig>(config) else { return };
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0)).with_most_bytes(LIMIT as u64);
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let built = config.build(&parameters.scope());
        let took = MEMORY.peak_usage() - before;
        // A value is drawn before it is copied to its place, and f64 are twice as large as f32.
        assert!(took < 6 * LIMIT, "{what} took {took} bytes");
        if let Err(error) = built {
            assert!(error.is_bad_use(), "{what}: {error}");
            refused += 1;
        }
    };
    for name in NamedFlow::NAMES {
        for context in [None, Some(2)] {
            let config = FlowConfig { context, ..FlowConfig::new(4, NamedFlow::named(name).unwrap()) };
            let config = serde_json::to_value(config).unwrap();
            let mut paths = Vec::new();
            whole_numbers(&mut config.clone(), "", &mut |path, _| paths.push(path.to_string()));
            for path in paths {
                for size in [1_000_000, 1_000_000_000_000, u64::MAX] {
                    let mut mistyped = config.clone();
                    whole_numbers(&mut mistyped, "", &mut |at, value| {
                        if at == path {
                            *value = size.into();
                        }
                    });
                    build(format!("{name}{path} = {size}"), mistyped);
                }
            }
        }
    }
    assert!(refused > 300, "{refused}");
}
