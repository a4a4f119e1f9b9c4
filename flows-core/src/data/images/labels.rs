//! Classes by their numbers.

use super::Images;
use crate::Result;
use crate::text::some_of;
use std::collections::{BTreeMap, BTreeSet};

impl Images {
    /// Sets the class of each image by its number, if all are known. The classes are those that `names` has names for,
    /// if these are all, else 0 to the greatest, so that a number is its own index.
    pub(super) fn numbered(mut self, labels: &[Option<u32>], names: Option<Vec<(u32, String)>>) -> Result<Self> {
        let unknown = labels.iter().filter(|label| label.is_none()).count();
        let known: BTreeSet<u32> = labels.iter().flatten().copied().collect();
        let Some(&most) = known.last() else { return Ok(self) };
        if unknown > 0 {
            let has = some_of(unknown, self.len(), "image", ["has", "have"]);
            self.notes.push(format!("{has} no class, so that the classes of the others are not read"));
            return Ok(self);
        }
        let names: BTreeMap<u32, String> = names.into_iter().flatten().collect();
        let names = match known.iter().all(|number| names.contains_key(number)) {
            true => names,
            false => (0..=most).map(|number| (number, number.to_string())).collect(),
        };
        let numbers: Vec<u32> = names.keys().copied().collect();
        let place = |label: &u32| numbers.binary_search(label).unwrap_or(0) as u32;
        self.with_labels(labels.iter().flatten().map(place).collect(), names.into_values().collect())
    }
}

/// Names of the classes 0, 1, 2, ...
pub(super) fn counted(names: impl IntoIterator<Item = String>) -> Vec<(u32, String)> {
    names.into_iter().enumerate().map(|(number, name)| (number as u32, name)).collect()
}
