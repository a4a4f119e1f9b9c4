//! A conditional density, `p(y | x)`: a whole distribution of y for each x, where regression has one number.

use flows_core::data::{Dataset, Toy};
use flows_core::prelude::*;

/// Learns the height of a point of the two moons given how far to the right it is.
pub fn main() -> Result<()> {
    let mut rng = Rng::seed(0);
    let data = Dataset::from_toy(Toy::TwoMoons, [20_000, 1, 5_000], &mut rng)?.with_context(&["0"])?;
    let model = Nsf { layers: 3, network: NetworkConfig::mlp([64, 64]), ..Nsf::default() };
    let flow = Flow::new(FlowConfig::new(1, model).with_context(1), &mut rng)?;
    let train = TrainConfig { steps: 800, optimizer: OptimizerConfig::adam(5e-3), ..TrainConfig::default() };
    fit(&flow, data.train, FitConfig { train, ..FitConfig::default() }, &mut rng)?;

    let nats = score(&flow, &data.test.x, data.test.context.as_ref())?.mean_all()?.to_scalar::<f32>()?;
    let middle = flow.given(&Tensor::new(&[0f32], &Device::Cpu)?)?;
    let mut heights = draw(&middle, 5_000, None, &mut rng)?.flatten_all()?.to_vec1::<f32>()?;
    heights.sort_by(f32::total_cmp);
    let [low, high] = [heights[1_250], heights[3_750]];
    println!("{nats:.3} nats a height, given its place");
    println!("in the middle a point is on one of the moons: the quartiles of its height are {low:.2} and {high:.2}");
    assert!(nats > -1.2 && (low + 0.93).abs() < 0.2 && (high - 1.53).abs() < 0.2);
    Ok(())
}
