//! The density of a table of columns of several kinds, as a model.

use crate::distributions::{MixedTable, MixedTableConfig};
use crate::nn::Scope;
use crate::{Config, Model, Result};

/// A [`MixedTable`] with its config and its parameters.
pub type MixedTableModel = Model<MixedTableConfig>;

impl Config for MixedTableConfig {
    const KIND: &'static str = "mixed-table";
    type Built = MixedTable;

    fn build(&self, scope: &Scope) -> Result<MixedTable> {
        MixedTable::new(self, scope)
    }

    fn splits_batches(&self) -> bool {
        true
    }
}
