//! Words as they are read, and those that stand for dates.

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

/// The date that is this number of days after 1 January 1970, as `2024-02-29`.
pub(super) fn date(days: i64) -> String {
    // Since the first day of the year 1, in the calendar of today.
    let days_before = |year: i64| {
        let years = year - 1;
        365 * years + years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400)
    };
    let days = days.clamp(-1_000_000_000, 1_000_000_000) + days_before(1970);
    let mut year = (400 * days).div_euclid(146_097) + 1;
    while days_before(year) > days {
        year -= 1;
    }
    while days_before(year + 1) <= days {
        year += 1;
    }
    let leap = days_before(year + 1) - days_before(year) - 365;
    let (mut month, mut day) = (1, days - days_before(year));
    for length in [31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", day + 1)
}

/// The time that is this number of seconds and nanoseconds after the beginning of 1970: `2024-02-29T12:30:00.25`, and
/// at midnight the date alone.
pub(super) fn time(seconds: i64, nanoseconds: u32) -> String {
    let date = date(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    if (of_day, nanoseconds) == (0, 0) {
        return date;
    }
    let fraction = format!(".{nanoseconds:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{date}T{:02}:{:02}:{:02}{fraction}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_seconds_are_dates() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (11_016, "2000-02-29"),
            (-25_509, "1900-02-28"),
            (-25_508, "1900-03-01"),
        ] {
            assert_eq!(date(days), text);
        }
        for day in -30_000..50_000 {
            let (a, b) = (date(day), date(day + 1));
            assert!(a < b, "{a} {b}");
        }
        assert_eq!(time(86_400, 0), "1970-01-02");
        assert_eq!(time(-1, 250_000_000), "1969-12-31T23:59:59.25");
        assert_eq!(time(45_000, 0), "1970-01-01T12:30:00");
    }

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
