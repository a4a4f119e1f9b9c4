//! Steps and levels of a Glow.

use crate::{Equalize, GlowConfig, ImageCoupling, Mixing, SplitPrior, TopPrior};
use flows_core::Result;
use flows_core::bijectors::{ActNorm, Bijector, Chain, Conv1x1, Level, Order, Permutation, Squeeze, Start};
use flows_core::nn::Scope;

/// The levels of a Glow, from the data on, their tensors in `scope` as `levels.I.K.actnorm`, `.mix` and `.coupling`
/// for step K from the data on, and `levels.I.prior`.
///
/// # Errors
/// When the config names a size that cannot be.
pub fn levels(config: &GlowConfig, scope: &Scope) -> Result<Vec<Level>> {
    config.check()?;
    let mut levels = Vec::with_capacity(config.levels);
    for i in 0..config.levels {
        levels.push(level(config, i, &scope.enter("levels").enter(i))?);
    }
    if config.equalize {
        let equalize = Equalize::new(config.shape, config.bins() as usize, &scope.enter("equalize"))?;
        let Level { flow, prior } = levels.remove(0);
        levels.insert(0, Level { flow: Box::new(Chain::new(vec![flow, Box::new(equalize)])?), prior });
    }
    Ok(levels)
}

fn level(config: &GlowConfig, index: usize, scope: &Scope) -> Result<Level> {
    let shape = config.level_shape(index);
    let [channels, height, width] = shape;
    // From the data on, which is the order of the names.
    let mut steps: Vec<Box<dyn Bijector>> = vec![Box::new(Squeeze::new(&[channels / 4, 2 * height, 2 * width], 2)?)];
    for k in 0..config.steps_of(index) {
        let scope = scope.enter(k);
        steps.push(Box::new(ActNorm::new(&shape, &scope.enter("actnorm"))?));
        steps.push(mixing(config.mixing_of(index), &shape, &scope.enter("mix"))?);
        steps.push(Box::new(ImageCoupling::new(shape, config.coupling, config.hidden, &scope.enter("coupling"))?));
    }
    let scope = scope.enter("prior");
    let prior: Option<Box<dyn Bijector>> = match index + 1 == config.levels {
        true => {
            steps.push(Box::new(TopPrior::new(shape, config.classes, &scope)?));
            None
        }
        false => Some(Box::new(SplitPrior::new([channels / 2, height, width], &scope)?)),
    };
    steps.reverse();
    Ok(Level { flow: Box::new(Chain::new(steps)?), prior })
}

fn mixing(mixing: Mixing, shape: &[usize], scope: &Scope) -> Result<Box<dyn Bijector>> {
    Ok(match mixing {
        Mixing::Plain => Box::new(Conv1x1::new(shape, Start::Random, scope)?),
        Mixing::Lu => Box::new(Conv1x1::lu(shape, Start::Random, scope)?),
        Mixing::Shuffle => Box::new(Permutation::new(shape, Order::Random, scope)?),
        Mixing::Reverse => Box::new(Permutation::new(shape, Order::Reverse, scope)?),
    })
}
