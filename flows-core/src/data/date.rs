//! Dates and times as days since the first of January 1970.

/// The days from 1970-01-01 to a date of the Gregorian calendar, with or without a time: 2024-11-30, 2024/11/30,
/// 30.11.2024, 2024-11-30T18:45, 2024-11-30 18:45:10.5Z, 2024-11-30T18:45+02:00 (which is 16:45 of coordinated universal
/// time). Dates such as 11/30/2024 have no clear order.
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
    (date_of_day(day_number) == format!("{year:04}-{month:02}-{day:02}")).then_some(())?;
    Some(day_number as f64 + time.map_or(Some(0.0), share_of_day)?)
}

/// The date after so many days, with the time to the second unless it is midnight.
pub fn date(days: f64) -> String {
    date_of_second((days * 86_400.0).round() as i64, 0)
}

fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The share of a day at a time of coordinated universal time; less than 0 or 1 and more if the offset of its zone moves
/// it to another day.
fn share_of_day(time: &str) -> Option<f64> {
    let (time, offset) = match time.find(['+', '-']) {
        Some(at) => (time[..at].trim_end(), offset(&time[at..])?),
        None => (time.strip_suffix('Z').unwrap_or(time), 0.0),
    };
    let mut parts = time.split(':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let second: f64 = parts.next().map_or(Some(0.0), |text| text.parse().ok())?;
    let in_range = hour < 24 && minute < 60 && (0.0..60.0).contains(&second) && parts.next().is_none();
    in_range.then(|| (f64::from(hour * 3600 + minute * 60) + second - offset) / 86_400.0)
}

/// The seconds by which a time zone is ahead: `+02:00`, `-0530`, `+01`.
fn offset(zone: &str) -> Option<f64> {
    let (sign, digits) = (if zone.starts_with('-') { -1.0 } else { 1.0 }, zone[1..].replace(':', ""));
    let (hours, minutes) = match digits.len() {
        2 => (number(&digits)?, 0),
        4 => (number(digits.get(..2)?)?, number(digits.get(2..)?)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then(|| sign * f64::from(hours * 3600 + minutes * 60))
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

/// The date that is this number of days after 1 January 1970, as `2024-02-29`.
pub(super) fn date_of_day(days: i64) -> String {
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
pub(super) fn date_of_second(seconds: i64, nanoseconds: u32) -> String {
    let date = date_of_day(seconds.div_euclid(86_400));
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
            assert_eq!(date_of_day(days), text);
        }
        for day in -30_000..50_000 {
            let (a, b) = (date_of_day(day), date_of_day(day + 1));
            assert!(a < b, "{a} {b}");
        }
        assert_eq!(date_of_second(86_400, 0), "1970-01-02");
        assert_eq!(date_of_second(-1, 250_000_000), "1969-12-31T23:59:59.25");
        assert_eq!(date_of_second(45_000, 0), "1970-01-01T12:30:00");
    }

    #[test]
    fn dates_are_days() {
        for (word, want) in [
            ("1970-01-01", 0.0),
            ("1969-12-31", -1.0),
            ("2000/02/29", 11_016.0),
            ("30.11.2024", 20_057.0),
            ("2024-11-30T18:45", 20_057.781_25),
            ("2024-11-30 18:45:00Z", 20_057.781_25),
            ("2024-11-30T20:45:00+02:00", 20_057.781_25),
            ("2024-11-30 13:15 -0530", 20_057.781_25),
            ("2024-12-01T00:45+06", 20_057.781_25),
            ("1600-03-01", -135_080.0),
        ] {
            assert_eq!(days(word), Some(want), "{word}");
            assert_eq!(days(&date(want)), Some(want), "{word}");
        }
        for word in [
            "11/30/2024",
            "2023-02-29",
            "2024-13-01",
            "2024-1",
            "a-b-c",
            "2024-01-01T25:00",
            "2024-11-30-1",
            "2024-01-01T10:00+1",
            "",
        ] {
            assert_eq!(days(word), None, "{word}");
        }
        assert_eq!(date(20_057.5), "2024-11-30T12:00:00");
        assert!((-700_000..800_000).step_by(37).all(|day| days(&date(f64::from(day))) == Some(f64::from(day))));
    }
}
