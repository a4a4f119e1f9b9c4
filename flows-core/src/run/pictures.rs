//! The picture at the end of a run on a table or on a density in the plane.

use super::{margins_compared, plane_figure};
use crate::data::{Dataset, Toy};
use crate::distributions::{Distribution, draw};
use crate::flows::{TableConfig, TableModel};
use crate::plot::Figure;
use crate::{Result, Rng};

/// The most rows whose margins are shown.
const ROWS: usize = 5_000;

/// The name of a file and the figure in it, if there is one of the model: a density in the plane with samples, or the
/// margins of draws beside those of the test rows.
///
/// # Errors
/// Any error from the model.
pub fn table_figure(
    model: &TableModel,
    toy: Option<Toy>,
    data: &Dataset,
    rng: &mut Rng,
) -> Result<Option<(&'static str, Figure)>> {
    if let TableConfig::Mixed(mixed) = model.config() {
        let rows = data.test.rows(0..ROWS.min(data.test.len()))?;
        let drawn = mixed.decode(&draw(model, rows.len(), rows.context.as_ref(), rng)?)?;
        let columns = &mixed.order[mixed.given..];
        return Ok(Some(("margins.png", margins_compared(&mixed.decode(&rows.x)?, &drawn, &mixed.schema, columns))));
    }
    if model.config().features() != 2 {
        return Ok(None);
    }
    let figure = plane_figure(model, toy, data, |count, context| model.sample(count, context, rng))?;
    Ok(Some(("density.png", figure)))
}
