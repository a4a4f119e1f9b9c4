//! Human-readable numbers and lists.

/// `1234567` as `1,234,567`.
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A count with its noun: `1 row`, `2,000 rows`.
pub fn plural(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `n` of `all` things, with a verb that agrees with `n`, one of `["is", "are"]`: `1 of 12 images is`, `2 of 12 images are`.
pub fn some_of(n: usize, all: usize, noun: &str, [one, several]: [&str; 2]) -> String {
    format!("{} of {} {}", count(n), plural(all, noun), if n == 1 { one } else { several })
}

/// A list of names in backquotes, separated by commas; of more than five the first five and the number of the others.
pub fn list(names: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<String> = names.by_ref().take(5).map(|name| format!("`{name}`")).collect();
    let more = names.count();
    format!("{}{}", shown.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
}

/// A number with four decimals, `-2.5066`, or of a great one four digits: `-4.3708e20`.
pub fn decimals(value: f64) -> String {
    if value.abs() < 1e7 { format!("{value:.4}") } else { format!("{value:.4e}") }
}

/// Bytes as `12 B`, `4.0 KiB`, `1.5 GiB`.
pub fn bytes(n: f64) -> String {
    let units = ["KiB", "MiB", "GiB"];
    let unit = (n.max(1.0).log2() / 10.0).floor().min(units.len() as f64) as i32;
    match units.get((unit - 1) as usize) {
        None => format!("{n:.0} B"),
        Some(name) => format!("{:.1} {name}", n / 1024f64.powi(unit)),
    }
}

/// Seconds as `0.8s`, `42s`, `1m 20s`, `3h 05m` or `2d 04h`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "forever".into();
    }
    if seconds < 9.95 {
        return format!("{:.1}s", seconds.max(0.0));
    }
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {:02}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_their_nouns() {
        assert_eq!([0, 1, 2000].map(|n| plural(n, "row")), ["0 rows", "1 row", "2,000 rows"]);
        let images = [(1, 12), (12, 1200), (1, 1), (0, 2)].map(|(n, all)| some_of(n, all, "image", ["is", "are"]));
        assert_eq!(images, ["1 of 12 images is", "12 of 1,200 images are", "1 of 1 image is", "0 of 2 images are"]);
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list(["a", "b"]), "`a`, `b`");
        assert_eq!(list(1..8), "`1`, `2`, `3`, `4`, `5` and 2 more");
    }

    #[test]
    fn great_numbers_are_short() {
        assert_eq!([-2.50663, 0.0, 4.37e20].map(decimals), ["-2.5066", "0.0000", "4.3700e20"]);
    }

    #[test]
    fn bytes_read_well() {
        let texts = [0.0, 1023.0, 1024.0, 1.5 * 1024.0 * 1024.0, 8.0 * 2f64.powi(30), 2f64.powi(50)].map(bytes);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "8.0 GiB", "1048576.0 GiB"]);
    }

    #[test]
    fn durations_read_well() {
        let cases = [
            (0.0, "0.0s"),
            (9.94, "9.9s"),
            (9.96, "10s"),
            (59.6, "1m 00s"),
            (80.0, "1m 20s"),
            (11_100.0, "3h 05m"),
            (187_200.0, "2d 04h"),
            (f64::INFINITY, "forever"),
            (f64::NAN, "forever"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
