//! Which supports there are, and how they are called.

use super::{Bounds, Part, Support, dependent};
use crate::ops::elements;
use crate::{Error, Result};
use std::collections::HashSet;
use std::fmt::{self, Display};

impl Support {
    /// Passes if there is such a support.
    ///
    /// # Errors
    /// When a size or a bound cannot be, or a name is there twice.
    pub fn check(&self) -> Result<()> {
        const MOST: usize = 1_000_000;
        let size = |size: usize, least: usize, most: usize| match (least..=most).contains(&size) {
            true => Ok(()),
            false => Err(Error::Config(format!("{self}: give a size of {least} to {most}"))),
        };
        match self {
            Self::Real { shape }
            | Self::Bounded { shape, .. }
            | Self::Dependent { shape, .. }
            | Self::Integers { shape, .. }
                if shape.contains(&0) =>
            {
                Err(Error::Config(format!("{self} is empty: no dimension may be 0")))
            }
            Self::Real { shape } => elements(shape).map(drop),
            Self::Bounded { shape, bounds, .. } => {
                let n = elements(shape)?;
                if bounds.len() != 1 && bounds.len() != n {
                    let got = bounds.len();
                    return Err(Error::Config(format!(
                        "{got} bounds for {n} elements: give one for each, or one for all"
                    )));
                }
                bounds.iter().try_for_each(Bounds::check)
            }
            Self::Integers { shape, low, high } => {
                elements(shape)?;
                match low <= high {
                    true => Ok(()),
                    false => Err(Error::Config(format!("{self}: give the smaller number first"))),
                }
            }
            Self::Dependent { .. } => Err(Error::Config(format!(
                "{self}: declare the part that bounds them and these in one `Support::named`"
            ))),
            Self::Ordered { size: k } | Self::PositiveOrdered { size: k } => size(*k, 1, MOST),
            Self::UnitVector { size: k } => size(*k, 2, MOST),
            Self::Simplex { size: k } | Self::StickBreaking { size: k } | Self::SumToZero { size: k } => {
                size(*k, 2, 4096)
            }
            Self::CovarianceFactor { size: k } | Self::Covariance { size: k } => size(*k, 1, 1024),
            Self::CorrelationFactor { size: k } | Self::Correlation { size: k } => size(*k, 2, 1024),
            Self::Named { parts } => {
                let mut names = HashSet::new();
                for (index, part) in parts.iter().enumerate() {
                    let checked = match &part.support {
                        Self::Dependent { shape, .. } if !shape.contains(&0) => {
                            elements(shape).and_then(|_| dependent::check(parts, index))
                        }
                        support => support.check(),
                    };
                    checked.map_err(|e| Error::Config(format!("`{}`: {e}", part.name)))?;
                    if !names.insert(&part.name) {
                        return Err(Error::Config(format!("two parts are called `{}`: rename one", part.name)));
                    }
                }
                match parts.is_empty() {
                    true => Err(Error::Config("a support of named parts needs at least one".into())),
                    false => Ok(()),
                }
            }
        }
    }
}

impl Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real { shape } => write!(f, "reals {shape:?}"),
            Self::Bounded { shape, bounds, .. } => match bounds.as_slice() {
                [bounds] => write!(f, "reals {shape:?} with {bounds}"),
                _ => write!(f, "reals {shape:?} with bounds"),
            },
            Self::Dependent { shape, lower, upper, .. } => {
                write!(f, "reals {shape:?}")?;
                lower.iter().try_for_each(|limit| write!(f, " above {limit}"))?;
                upper.iter().try_for_each(|limit| write!(f, " below {limit}"))
            }
            Self::Ordered { size } => write!(f, "ordered vectors of {size}"),
            Self::PositiveOrdered { size } => write!(f, "positive ordered vectors of {size}"),
            Self::Simplex { size } => write!(f, "the simplex of {size}"),
            Self::StickBreaking { size } => write!(f, "the simplex of {size} by breaking a stick"),
            Self::SumToZero { size } => write!(f, "vectors of {size} that add up to 0"),
            Self::UnitVector { size } => write!(f, "unit vectors of {size}"),
            Self::CovarianceFactor { size } => write!(f, "Cholesky factors of {size} x {size} covariances"),
            Self::CorrelationFactor { size } => write!(f, "Cholesky factors of {size} x {size} correlations"),
            Self::Correlation { size } => write!(f, "{size} x {size} correlations"),
            Self::Covariance { size } => write!(f, "{size} x {size} covariances"),
            Self::Named { parts } => {
                for (i, Part { name, support }) in parts.iter().enumerate() {
                    write!(f, "{}{name}: {support}", if i == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Self::Integers { shape, low, high } => write!(f, "whole numbers {shape:?} of {low} to {high}"),
        }
    }
}
