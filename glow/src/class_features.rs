//! Learned features of classes.

use candle_core::{DType, Tensor};
use flows_core::nn::{Init, Mode, Network, Scope};
use flows_core::{Error, Result, Structure};

/// Features of each class at several sizes, which are themselves weights: an image per class and channel.
///
/// It maps classes, (B, 1) as u32, to (B, N), the concatenated features (F, h, w) of all sizes, as an
/// [`Encoder`](crate::Encoder) does for images. Weight: `features` (classes, N).
#[derive(Debug)]
pub struct ClassFeatures {
    features: Tensor,
    channels: usize,
}

impl ClassFeatures {
    /// Features with `channels` channels for each of `classes` at each of `sizes` (height, width).
    ///
    /// # Errors
    /// When a name is taken in `scope`.
    pub fn new(classes: usize, channels: usize, sizes: &[[usize; 2]], scope: &Scope) -> Result<Self> {
        let numbers: usize = sizes.iter().map(|[height, width]| channels * height * width).sum();
        Ok(Self { features: scope.weight("features", (classes, numbers), Init::Normal(0.05))?, channels })
    }
}

impl Network for ClassFeatures {
    fn forward(&self, x: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        Ok(self.features.index_select(&class_of_rows(Some(x), x.dim(0)?, self.features.dim(0)?)?, 0)?)
    }

    fn structure(&self) -> Structure {
        let details = format!("{} channels for each of {} classes", self.channels, self.features.dims()[0]);
        Structure::new("Class features", details).weights([&self.features])
    }
}

/// The class of each row, (B) as u32, from a context (B, 1).
pub(crate) fn class_of_rows(context: Option<&Tensor>, batch: usize, classes: usize) -> Result<Tensor> {
    let Some(context) = context else {
        return Err(Error::Config(format!("this Glow has {classes} classes: give one for each image")));
    };
    if context.dims() != [batch, 1] {
        return Err(Error::shape("the classes", context.dims(), format!("({batch}, 1)")));
    }
    let rows = context.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    if let Some(class) = rows.iter().find(|c| !(c.fract() == 0.0 && (0.0..classes as f64).contains(*c))) {
        return Err(Error::Data(format!("there is no class {class}: give integers from 0 to {}", classes - 1)));
    }
    Ok(context.flatten_all()?.to_dtype(DType::U32)?)
}
