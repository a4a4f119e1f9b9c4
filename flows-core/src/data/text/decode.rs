//! The text in the bytes of a file.

/// The text, and a note if its encoding was guessed.
pub(super) fn decode(bytes: Vec<u8>) -> (String, Option<String>) {
    let utf16 = |from: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = from.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match &bytes[..] {
        [0xff, 0xfe, rest @ ..] => return (utf16(rest, u16::from_le_bytes), None),
        [0xfe, 0xff, rest @ ..] => return (utf16(rest, u16::from_be_bytes), None),
        [0xef, 0xbb, 0xbf, rest @ ..] if std::str::from_utf8(rest).is_ok() => {
            return (String::from_utf8_lossy(rest).into_owned(), None);
        }
        // Without a mark, but with every other byte zero, as digits have it.
        [a, 0, b, 0, ..] if *a != 0 && *b != 0 => return (utf16(&bytes, u16::from_le_bytes), None),
        [0, a, 0, b, ..] if *a != 0 && *b != 0 => return (utf16(&bytes, u16::from_be_bytes), None),
        _ => {}
    }
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        // Every byte is the character of its number in Latin-1.
        Err(error) => {
            let text = error.as_bytes().iter().map(|&byte| char::from(byte)).collect();
            (text, Some("the text is not UTF-8 and was read as Latin-1: check names and words".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_apart() {
        let utf16 = |big: bool, mark: bool| -> Vec<u8> {
            let units = mark.then_some(0xfeff).into_iter().chain("a,ü\n".encode_utf16());
            units.flat_map(|unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
        };
        for bytes in [utf16(false, true), utf16(true, true), utf16(false, false), utf16(true, false)] {
            assert_eq!(decode(bytes), ("a,ü\n".to_string(), None));
        }
        assert_eq!(decode("\u{feff}a,ü\n".into()), ("a,ü\n".to_string(), None));
        assert_eq!(decode("a,ü\n".into()), ("a,ü\n".to_string(), None));
        let (text, note) = decode(b"a,\xfc\n".to_vec());
        assert!(text == "a,ü\n" && note.is_some());
    }
}
