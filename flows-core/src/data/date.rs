//! Dates and times as days since the first of January 1970.

use super::words;

/// The days from 1970-01-01 to a date of the Gregorian calendar, with or without a time: 2024-11-30, 2024/11/30,
/// 30.11.2024, 2024-11-30T18:45, 2024-11-30 18:45:10.5Z. Dates such as 11/30/2024 have no clear order.
pub fn days(word: &str) -> Option<f64> {
    let (date, time) = word.split_once(['T', ' ']).map_or((word, None), |(date, time)| (date, Some(time)));
    let separator = date.chars().find(|c| matches!(c, '-' | '/' | '.'))?;
    let mut parts = date.split(separator);
    let (first, month, last) = (parts.next()?, number(parts.next()?)?, parts.next()?);
    let (year, day) = match (first.len(), last.len(), separator) {
        (4, 1..=2, _) => (first, last),
        (1..=2, 4, '.') => (last, first),
        _ => return None,
    };
    let (year, day) = (i64::from(number(year)?), number(day)?);
    (parts.next().is_none() && (1..=12).contains(&month)).then_some(())?;
    let day_number = day_number(year, month, day);
    // A month has no more days than are counted in it.
    (words::date(day_number) == format!("{year:04}-{month:02}-{day:02}")).then_some(())?;
    Some(day_number as f64 + time.map_or(Some(0.0), share_of_day)?)
}

/// The date after so many days, with the time to the second unless it is midnight.
pub fn date(days: f64) -> String {
    words::time((days * 86_400.0).round() as i64, 0)
}

fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The share of a day at a time of coordinated universal time.
fn share_of_day(time: &str) -> Option<f64> {
    let mut parts = time.trim_end_matches('Z').split(':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let second: f64 = parts.next().map_or(Some(0.0), |text| text.parse().ok())?;
    let in_range = hour < 24 && minute < 60 && (0.0..60.0).contains(&second) && parts.next().is_none();
    in_range.then(|| (f64::from(hour * 3600 + minute * 60) + second) / 86_400.0)
}

/// Days from 1970-01-01. Years are counted from March, so that a leap day is the last of its year.
fn day_number(year: i64, month: u32, day: u32) -> i64 {
    let shifted = (i64::from(month) + 9) % 12;
    let year = if month <= 2 { year - 1 } else { year };
    365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * shifted + 2) / 5
        + i64::from(day)
        - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days() {
        for (word, want) in [
            ("1970-01-01", 0.0),
            ("1969-12-31", -1.0),
            ("2000/02/29", 11_016.0),
            ("30.11.2024", 20_057.0),
            ("2024-11-30T18:45", 20_057.781_25),
            ("2024-11-30 18:45:00Z", 20_057.781_25),
            ("1600-03-01", -135_080.0),
        ] {
            assert_eq!(days(word), Some(want), "{word}");
            assert_eq!(days(&date(want)), Some(want), "{word}");
        }
        for word in
            ["11/30/2024", "2023-02-29", "2024-13-01", "2024-1", "a-b-c", "2024-01-01T25:00", "2024-11-30-1", ""]
        {
            assert_eq!(days(word), None, "{word}");
        }
        assert_eq!(date(20_057.5), "2024-11-30T12:00:00");
        assert!((-700_000..800_000).step_by(37).all(|day| days(&date(f64::from(day))) == Some(f64::from(day))));
    }
}
