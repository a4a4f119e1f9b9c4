//! What the decoder of JPEG files passes over.

/// What is wrong with a file: it ends before its image does, of which a decoder would fill the rest with grey, or its
/// colours are those of printing, and it does not tell whether they are inverted, as Adobe's are.
pub(super) fn fault(bytes: &[u8]) -> Option<&'static str> {
    let header = Header::of(bytes)?;
    // In compressed data a marker of the end is the end.
    let is_end = |pair: &[u8]| pair == [0xff, 0xd9];
    if !bytes.get(header.data..).is_some_and(|data| data.windows(2).rev().any(is_end)) {
        return Some("it is cut short");
    }
    (header.components == 4 && !header.adobe).then_some("its CMYK colours may be inverted or not: save it as RGB")
}

/// What the segments before the compressed data say.
struct Header {
    /// Where the compressed data of the first scan begins.
    data: usize,
    components: u8,
    adobe: bool,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut header = Self { data: 2, components: 0, adobe: false };
        loop {
            let rest = bytes.get(header.data..)?;
            match *rest.get(..4)? {
                // Filling.
                [0xff, 0xff, ..] => header.data += 1,
                [0xff, marker, high, low] => {
                    header.data += 2 + usize::from(u16::from_be_bytes([high, low]));
                    match marker {
                        // Frames; 0xc4, 0xc8 and 0xcc are other things.
                        0xc0..=0xcf if marker % 4 != 0 || marker == 0xc0 => header.components = *rest.get(9)?,
                        0xee => header.adobe |= rest.get(4..9) == Some(b"Adobe"),
                        0xda => return Some(header),
                        _ => {}
                    }
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageFormat, RgbImage};
    use std::io::Cursor;

    #[test]
    fn files_that_end_early_are_cut() {
        let mut file = Cursor::new(Vec::new());
        let image = RgbImage::from_fn(24, 24, |x, y| image::Rgb([10 * x as u8, 10 * y as u8, (7 * x * y) as u8]));
        image.write_to(&mut file, ImageFormat::Jpeg).unwrap();
        let whole = file.into_inner();
        assert_eq!((fault(&whole), fault(&[&whole[..], b"more"].concat())), (None, None));
        let Header { data, components, adobe } = Header::of(&whole).unwrap();
        assert_eq!((components, adobe), (3, false));
        assert!((data..whole.len() - 1).all(|end| fault(&whole[..end]) == Some("it is cut short")));
        // A decoder finds other faults.
        assert!([&b""[..], b"\xff\xd8", b"no image"].iter().all(|bytes| fault(bytes).is_none()));
    }

    #[test]
    fn printing_colours_have_to_be_told() {
        let file = |adobe: &[u8]| {
            let frame = b"\xff\xc0\0\x14\x08\0\x10\0\x10\x04\x01\x11\0\x02\x11\0\x03\x11\0\x04\x11\0";
            let scan = b"\xff\xda\0\x0e\x04\x01\0\x02\0\x03\0\x04\0\0\x3f\0data\xff\xd9";
            [b"\xff\xd8", adobe, frame, scan].concat()
        };
        assert!(fault(&file(b"")).unwrap().contains("CMYK"));
        assert_eq!(fault(&file(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0")), None);
    }
}
