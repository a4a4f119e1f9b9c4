//! Steps and levels of a Glow.

use crate::encoder::{Features, WithFeatures};
use crate::{ClassFeatures, Condition, Encoder, GlowConfig, Mixing, TopPrior, coupling, injector, normal_prior};
use flows_core::Result;
use flows_core::bijectors::{
    ActNorm, Bijector, Chain, Conv1x1, Embed, Equalize, Level, Logit, MultiScale, Order, Permutation, SplitPrior,
    Squeeze, Start,
};
use flows_core::nn::{Network, Scope};

/// The bijection of a Glow between latent vectors and images: its [`levels`] and, as `encoder`, the [`Encoder`] of the
/// image that it is conditioned on or the [`ClassFeatures`], if any.
///
/// # Errors
/// When the config has an invalid size.
pub fn flow(config: &GlowConfig, scope: &Scope) -> Result<Box<dyn Bijector>> {
    let levels = MultiScale::new(levels(config, scope)?)?;
    let sizes: Vec<[usize; 2]> = (0..config.levels)
        .map(|i| {
            let [_, height, width] = config.level_shape(i);
            [height, width]
        })
        .collect();
    let scope = scope.enter("encoder");
    let given: Box<dyn Network> =
        match (config.condition, config.condition_shape(), config.classes, config.class_features) {
            (Some(Condition { features, blocks, .. }), Some(shape), ..) => {
                Box::new(Encoder::new(shape, features, blocks, &sizes, &scope)?)
            }
            (_, _, Some(classes), Some(channels)) => Box::new(ClassFeatures::new(classes, channels, &sizes, &scope)?),
            _ => return Ok(Box::new(levels)),
        };
    Ok(Box::new(Embed::new(given, Box::new(levels))))
}

/// The levels of a Glow, from the data on, their tensors in `scope` as `levels.I.K.actnorm`, `.mix` and `.coupling`
/// for step K from the data on, and `levels.I.prior`. The context is that of [`TopPrior`], or the features
/// of an image or of classes, if there are any; for an image, steps also have an `.injector`.
///
/// # Errors
/// When the config has an invalid size.
pub fn levels(config: &GlowConfig, scope: &Scope) -> Result<Vec<Level>> {
    config.check()?;
    (0..config.levels).map(|i| level(config, i, &scope.enter("levels").enter(i))).collect()
}

fn level(config: &GlowConfig, index: usize, scope: &Scope) -> Result<Level> {
    let shape = config.level_shape(index);
    let [channels, height, width] = shape;
    let features = Features::of_level(config, index);
    let given = features.map(|features| features.shape[0]);
    // From the data on, the order of the names.
    let mut steps: Vec<Box<dyn Bijector>> = Vec::new();
    if index == 0 && config.equalize {
        steps.push(Box::new(Equalize::new(
            config.shape,
            config.bins() as usize,
            [-0.5, 0.5],
            &scope.enter("equalize"),
        )?));
    }
    if let Some(a) = config.logit.filter(|_| index == 0) {
        steps.push(Box::new(Logit::new(&config.shape, a, [-0.5, 0.5])?));
    }
    steps.push(Box::new(Squeeze::new(&[channels / 4, 2 * height, 2 * width], 2)?));
    for k in 0..config.steps_of(index) {
        let scope = scope.enter(k);
        steps.push(Box::new(ActNorm::new(&shape, &scope.enter("actnorm"))?));
        steps.push(mixing(config.mixing_of(index), &shape, &scope.enter("mix"))?);
        if let (Some(features), true) = (given, config.condition.is_some()) {
            steps.push(Box::new(injector(shape, features, config.hidden, &scope.enter("injector"))?));
        }
        steps.push(Box::new(coupling(shape, config.coupling, config.hidden, given, &scope.enter("coupling"))?));
    }
    let (scope, half) = (scope.enter("prior"), [channels / 2, height, width]);
    let mut split: Option<SplitPrior> = None;
    match (index + 1 == config.levels, features) {
        (true, None) => steps.push(Box::new(TopPrior::new(shape, config.classes, &scope)?)),
        (true, Some(features)) => steps.push(Box::new(normal_prior(shape, features.shape[0], &scope)?)),
        (false, None) => split = Some(SplitPrior::new(Box::new(normal_prior(half, half[0], &scope)?))),
        (false, Some(features)) => {
            let normal = normal_prior(half, half[0] + features.shape[0], &scope)?;
            split = Some(SplitPrior::embedded(Box::new(WithFeatures(features)), Box::new(normal)));
        }
    }
    steps.reverse();
    let mut flow: Box<dyn Bijector> = Box::new(Chain::new(steps)?);
    if let Some(features) = features {
        flow = Box::new(Embed::new(Box::new(features), flow));
    }
    Ok(Level { flow, prior: split })
}

fn mixing(mixing: Mixing, shape: &[usize], scope: &Scope) -> Result<Box<dyn Bijector>> {
    Ok(match mixing {
        Mixing::Plain => Box::new(Conv1x1::new(shape, Start::Random, scope)?),
        Mixing::Lu => Box::new(Conv1x1::lu(shape, Start::Random, scope)?),
        Mixing::Shuffle => Box::new(Permutation::new(shape, Order::Random, scope)?),
        Mixing::Reverse => Box::new(Permutation::new(shape, Order::Reverse, scope)?),
    })
}
