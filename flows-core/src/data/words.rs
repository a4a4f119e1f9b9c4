//! Words as they are read.

use super::Cells;
use std::collections::HashMap;

/// The cells of a column of words; each different word is kept once.
#[derive(Default)]
pub(super) struct Words {
    words: Vec<String>,
    indices: HashMap<String, u32>,
    codes: Vec<Option<u32>>,
}

impl Words {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self { codes: Vec::with_capacity(rows), ..Self::default() }
    }

    /// The number of cells.
    #[cfg(feature = "tables")]
    pub(super) fn len(&self) -> usize {
        self.codes.len()
    }

    /// Appends a cell; none if it is missing.
    pub(super) fn push(&mut self, word: Option<&str>) {
        let code = word.map(|word| match self.indices.get(word) {
            Some(&code) => code,
            None => {
                let code = self.words.len() as u32;
                self.indices.insert(word.to_string(), code);
                self.words.push(word.to_string());
                code
            }
        });
        self.codes.push(code);
    }

    /// The cells, of which `numbers` are numbers and the `first_word` is not: its row and its text.
    pub(super) fn among(self, numbers: usize, first_word: (usize, String)) -> Cells {
        Cells::Words { words: self.words, codes: self.codes, numbers, first_word }
    }

    /// The cells, which are numbers if all the words are.
    pub(super) fn cells(self) -> Cells {
        let is_number: Vec<bool> = self.words.iter().map(|word| word.parse::<f64>().is_ok()).collect();
        let known = || self.codes.iter().enumerate().filter_map(|(row, code)| Some((row, (*code)? as usize)));
        let numbers = known().filter(|&(_, code)| is_number[code]).count();
        if !is_number.is_empty() && is_number.iter().all(|&is_number| is_number) {
            let values: Vec<f64> = self.words.iter().map(|word| word.parse().unwrap_or(f64::NAN)).collect();
            return Cells::Numbers(
                self.codes.iter().map(|code| code.map_or(f64::NAN, |code| values[code as usize])).collect(),
            );
        }
        let first = known().find(|&(_, code)| !is_number[code]).or_else(|| known().next());
        let first_word = first.map(|(row, code)| (row, self.words[code].clone())).unwrap_or_default();
        self.among(numbers, first_word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_once() {
        let mut words = Words::with_capacity(4);
        [Some("a"), None, Some("2"), Some("a")].into_iter().for_each(|word| words.push(word));
        let want = Cells::Words {
            words: vec!["a".into(), "2".into()],
            codes: vec![Some(0), None, Some(1), Some(0)],
            numbers: 1,
            first_word: (0, "a".into()),
        };
        assert_eq!(words.cells(), want);
    }
}
