//! The boxes that hold supports.

use super::{Bounds, Part, Support, count, dependent};

impl Support {
    /// A box that holds the support: bounds of each element, in row-major order.
    pub(crate) fn bounds(&self) -> Vec<Bounds> {
        let n = count(&self.shape());
        let all = |bounds: Bounds| vec![bounds; n];
        match self {
            Self::Bounded { bounds, .. } => bounds.iter().cycle().take(n).copied().collect(),
            Self::PositiveOrdered { .. } => all(Bounds::above(0.0)),
            Self::Simplex { .. } | Self::StickBreaking { .. } => all(Bounds::between(0.0, 1.0)),
            Self::Named { parts } => {
                let part = |(index, part): (usize, &Part)| match &part.support {
                    Self::Dependent { shape, .. } => vec![dependent::bounds(parts, index); count(shape)],
                    support => support.bounds(),
                };
                parts.iter().enumerate().flat_map(part).collect()
            }
            Self::Integers { low, high, .. } => all(Bounds::between(*low as f64 - 1.0, *high as f64 + 1.0)),
            _ => all(Bounds::NONE),
        }
    }

    /// Elements with these bounds, in events of this shape, if any has one.
    pub(crate) fn in_box(shape: &[usize], bounds: Vec<Bounds>) -> Option<Self> {
        let first = *bounds.iter().find(|bounds| **bounds != Bounds::NONE)?;
        let alike = bounds.iter().all(|bounds| *bounds == first);
        Some(Self::bounded(shape, if alike { vec![first] } else { bounds }))
    }

    /// Events of these supports behind each other in row-major order, in events of `shape`, if not all are the reals:
    /// elements with bounds; parts named by their index if there are others than such; or the box that holds them if
    /// events are no vectors.
    pub(crate) fn product(shape: &[usize], parts: Vec<Self>) -> Option<Self> {
        let is_box = |part: &Self| matches!(part, Self::Real { .. } | Self::Bounded { .. });
        if shape.len() != 1 || parts.iter().all(is_box) {
            return Self::in_box(shape, parts.iter().flat_map(Self::bounds).collect());
        }
        Some(Self::named(parts.into_iter().enumerate().map(|(i, part)| (i.to_string(), part))))
    }
}
