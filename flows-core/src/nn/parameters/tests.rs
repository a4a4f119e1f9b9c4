use super::*;
use crate::nn::Init;

/// A layer that does not keep its noise.
fn forgetful(parameters: &Parameters) -> Result<f64> {
    let scope = parameters.scope().enter("layer");
    scope.weight("weight", 2, Init::Zeros)?;
    Ok(scope.rng()?.normal())
}

/// A layer that keeps its noise in a buffer.
fn mindful(parameters: &Parameters) -> Result<Vec<f64>> {
    let scope = parameters.scope().enter("layer");
    scope.weight("weight", 2, Init::Zeros)?;
    let draw = |rng: &mut Rng| rng.normal_tensor(2, DType::F64, &Device::Cpu);
    Ok(scope.drawn_buffer("noise", 2, DType::F64, draw)?.get().to_vec1()?)
}

#[test]
fn a_draw_that_is_not_kept_is_an_error_in_a_copy() -> Result<()> {
    let new = || Parameters::new(DType::F64, &Device::Cpu, Rng::seed(3));
    let parameters = new();
    forgetful(&parameters)?;
    for copy in [parameters.detached(), parameters.to_device(&Device::Cpu)] {
        let message = forgetful(&copy).unwrap_err().to_string();
        assert!(message.contains("`layer`") && message.contains("drawn_buffer"), "{message}");
    }
    let parameters = new();
    let noise = mindful(&parameters)?;
    // Drawn from the fork that `rng` would have given.
    assert_eq!(noise[0], forgetful(&new())?);
    let copy = parameters.to_device(&Device::Cpu);
    assert_eq!((mindful(&parameters.detached())?, mindful(&copy)?), (noise.clone(), noise));
    copy.check_saved()?;
    let message = copy.scope().weight("late", 1, Init::Zeros).unwrap_err().to_string();
    assert!(message.contains("`late` is missing"), "{message}");
    Ok(())
}

#[test]
fn models_that_are_too_large_are_errors_before_they_are_made() -> Result<()> {
    let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
    let scope = parameters.scope().enter("layer");
    let refused = |result: Result<()>, words: &[&str]| {
        let error = result.unwrap_err();
        let said = error.to_string();
        assert!(error.is_bad_use() && words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
    };
    let weight = |shape: &[usize]| scope.weight("weight", shape, Init::Normal(1.0)).map(drop);
    refused(
        weight(&[1_000_000; 2]),
        &["`layer.weight` of shape [1000000, 1000000]", "3725.3 GiB", "8.0 GiB", "a width"],
    );
    refused(weight(&[usize::MAX; 8]), &["`layer.weight`", "a width"]);
    refused(weight(&[(1 << 30) + 1]), &["`layer.weight`: a tensor of shape [1073741825]"]);
    let never = |_: &mut Rng| unreachable!("it is refused before it is drawn");
    refused(scope.drawn_buffer("order", (1 << 31) + 1, DType::U32, never).map(drop), &["`layer.order`", "8.0 GiB"]);
    refused(scope.reserve("mask", (1 << 20, 1 << 20), DType::U8), &["`layer.mask`", "1024.0 GiB"]);
    // Nothing was taken by what was refused, and small tensors add up.
    let parameters = parameters.with_most_bytes(10 << 10);
    let layer = |i: usize| parameters.scope().enter(i).weight("shift", 1, Init::Zeros).map(drop);
    (0..10).try_for_each(layer)?;
    refused(layer(10), &["`10.shift` of shape [1] takes 4 B", "11.0 KiB, more than the 10.0 KiB", "number of layers"]);
    let buffer = parameters.scope().buffer("flag", &Tensor::new(&[1u8], &Device::Cpu)?).map(drop);
    refused(buffer, &["`flag`"]);
    // A copy has its own values; a detached copy shares them.
    let copy = parameters.to_dtype(DType::F64);
    for i in 0..10 {
        copy.scope().enter(i).weight("shift", 1, Init::Zeros)?;
        parameters.detached().scope().enter(i).weight("shift", 1, Init::Zeros)?;
    }
    refused(copy.scope().reserve("mask", 1 << 20, DType::U8), &["`mask`", "10.0 KiB"]);
    Ok(())
}

#[test]
fn a_copy_is_independent_and_may_have_another_type() -> Result<()> {
    let build = |parameters: &Parameters| {
        let scope = parameters.scope();
        let flag = scope.buffer("flag", &Tensor::new(&[1u8], &Device::Cpu)?)?;
        Ok::<_, Error>((scope.weight("w", 3, Init::Normal(1.0))?, flag))
    };
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
    let (w, flag) = build(&parameters)?;
    let single = parameters.to_dtype(DType::F32);
    let (copy, copied) = build(&single)?;
    assert_eq!((copy.dtype(), copied.get().dtype()), (DType::F32, DType::U8));
    let same = parameters.to_device(&Device::Cpu);
    build(&same)?;
    let before = w.to_vec1::<f64>()?;
    same.trainable()[0].1.set(&w.zeros_like()?)?;
    single.trainable()[0].1.set(&copy.zeros_like()?)?;
    copied.set(&Tensor::new(&[0u8], &Device::Cpu)?)?;
    assert_eq!((w.to_vec1::<f64>()?, flag.get().to_vec1::<u8>()?), (before, vec![1]));
    Ok(())
}
