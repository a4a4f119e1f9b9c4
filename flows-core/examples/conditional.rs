//! A conditional density, `p(y | x)`: a whole distribution of y for each x, where regression has one number.

use flows_core::candle_core::{DType, Device, Tensor};
use flows_core::data::{Examples, Shuffle};
use flows_core::distributions::draw;
use flows_core::flows::{Flow, FlowConfig, Nsf};
use flows_core::nn::NetworkConfig;
use flows_core::train::{OptimizerConfig, TrainConfig, Trainer, forward_kl};
use flows_core::{Result, Rng};

/// Learns `y = sin x + noise` whose deviation is `0.1 + 0.1 |x|`.
pub fn main() -> Result<()> {
    let mut rng = Rng::seed(0);
    let x = ((rng.uniform_tensor((20_000, 1), DType::F32, &Device::Cpu)? * 6.0)? - 3.0)?;
    let noise = rng.normal_tensor((20_000, 1), DType::F32, &Device::Cpu)?;
    let y = (x.sin()? + noise * ((x.abs()? * 0.1)? + 0.1)?)?;
    let data = Examples { x: y, context: Some(x) };

    let model = Nsf { layers: 2, network: NetworkConfig::mlp([32, 32]), ..Nsf::default() };
    let flow = Flow::new(FlowConfig::new(1, model).with_context(1), &mut rng)?;
    flow.standardize(&data.x, data.context.as_ref())?;
    let config = TrainConfig { steps: 800, optimizer: OptimizerConfig::adam(3e-3), ..TrainConfig::default() };
    let mut shuffle = Shuffle::new(data.len(), 256, 0)?;
    let mut trainer = Trainer::new(flow.parameters(), config, rng.fork())?;
    let loss = |i, rng: &mut Rng| {
        let batch = data.select(&shuffle.batch(i))?;
        forward_kl(&flow, &batch.x, batch.context.as_ref(), rng)
    };
    trainer.run(loss, None, &mut ())?;

    for at in [-2.0f32, 0.0, 2.0] {
        let y = draw(&flow, 5_000, Some(&Tensor::full(at, (5_000, 1), &Device::Cpu)?), &mut rng)?;
        let (mean, deviation) =
            (y.mean_all()?.to_scalar::<f32>()?, y.flatten_all()?.var(0)?.sqrt()?.to_scalar::<f32>()?);
        println!(
            "x = {at:4.1}: y is {mean:5.2} ± {deviation:.2}, in truth {:5.2} ± {:.2}",
            at.sin(),
            0.1 + 0.1 * at.abs()
        );
        assert!((mean - at.sin()).abs() < 0.1 && (deviation - 0.1 - 0.1 * at.abs()).abs() < 0.1);
    }
    Ok(())
}
