//! Numbers as tables write them.

/// How a table writes numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Whether a comma is the decimal point.
    pub(super) decimal_comma: bool,
    /// What stands between groups of three digits.
    pub(super) thousands: Option<char>,
}

impl Numbers {
    /// The number that a cell is, if it is one.
    pub(super) fn parse(self, cell: &str) -> Option<f64> {
        if !(self.decimal_comma && cell.contains(',')) && self.thousands.is_none_or(|mark| !cell.contains(mark)) {
            return plain(cell);
        }
        if let Some(mark) = self.thousands.filter(|&mark| cell.contains(mark)) {
            let point = if self.decimal_comma { ',' } else { '.' };
            if !is_grouped(cell, mark, point) {
                return None;
            }
        }
        let digits: String = cell.chars().filter(|c| Some(*c) != self.thousands).collect();
        plain(&if self.decimal_comma { digits.replace(',', ".") } else { digits })
    }

    /// How these cells write numbers, by the commas and points in them; `separator` is what stands between cells.
    pub(super) fn of<'a>(cells: impl Iterator<Item = &'a str> + Clone, separator: u8) -> Self {
        let of_digits = |cell: &&str| {
            cell.contains(',')
                && cell.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '.' | '+' | '-' | 'e' | 'E'))
        };
        let cells = cells.filter(of_digits);
        if cells.clone().next().is_none() {
            return Self::default();
        }
        let european = Self { decimal_comma: true, thousands: Some('.') };
        if cells.clone().any(|cell| cell.contains('.') && european.parse(cell).is_some()) {
            return european;
        }
        let english = Self { decimal_comma: false, thousands: Some(',') };
        let grouped = cells.clone().all(|cell| english.parse(cell).is_some());
        // `1,234` between semicolons is more often one and a bit than a thousand and more.
        if grouped
            && (separator == b',' || cells.clone().any(|cell| cell.contains('.') || cell.matches(',').count() > 1))
        {
            return english;
        }
        Self { decimal_comma: true, thousands: None }
    }
}

/// The number that Rust's notation, or Fortran's, gives.
fn plain(cell: &str) -> Option<f64> {
    // Missing values have been told apart before.
    match cell.parse::<f64>() {
        Ok(value) => Some(value),
        Err(_) if cell.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) => {
            cell.replace(['D', 'd'], "e").parse().ok()
        }
        Err(_) => None,
    }
}

/// Whether `mark` stands between groups of three digits, all of them before `point`.
fn is_grouped(cell: &str, mark: char, point: char) -> bool {
    let cell = cell.strip_prefix(['+', '-']).unwrap_or(cell);
    let (whole, fraction) = cell.split_once(point).unwrap_or((cell, ""));
    let mut groups = whole.split(mark);
    let digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    groups.next().is_some_and(|first| matches!(first.len(), 1..=3) && digits(first))
        && groups.all(|group| group.len() == 3 && digits(group))
        && !fraction.contains(mark)
}

/// Whether a cell says that there is no value, whatever its column holds.
pub(super) fn is_missing(cell: &str) -> bool {
    matches!(
        cell,
        "" | "NA"
            | "N/A"
            | "n/a"
            | "#N/A"
            | "<NA>"
            | "NaN"
            | "nan"
            | "NAN"
            | "-nan"
            | "-NaN"
            | "null"
            | "NULL"
            | "Null"
            | "None"
    )
}

/// Whether a cell says so in a column of numbers.
pub(super) fn is_missing_number(cell: &str) -> bool {
    is_missing(cell) || matches!(cell, "?" | "." | "-" | "--" | "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_notation() {
        let of = |cells: &[&'static str], separator| Numbers::of(cells.iter().copied(), separator);
        let cases: [(&[&str], u8, f64); 8] = [
            (&["80,777", "1,620,499.5"], b',', 80_777.0),
            (&["2,5", "x, y"], b';', 2.5),
            (&["1,234", "0,5"], b';', 1.234),
            (&["1.234,5", "7"], b';', 1234.5),
            (&["1,234,567", "2"], b';', 1_234_567.0),
            (&["-3,5e2"], b'\t', -350.0),
            (&["4.190367D-02"], b',', 4.190367e-2),
            (&["+.5"], b',', 0.5),
        ];
        for (cells, separator, value) in cases {
            assert_eq!(of(cells, separator).parse(cells[0]), Some(value), "{cells:?}");
        }
        let english = of(&["80,777"], b',');
        for wrong in ["80,77", "8077,777", ",777", "1,2345", "x", "", "0x10", "1.5,000", "D5", "1 2"] {
            assert_eq!(english.parse(wrong), None, "{wrong}");
        }
    }
}
