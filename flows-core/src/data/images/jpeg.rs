//! What the decoder of JPEG files passes over.

use image::DynamicImage;

/// What is wrong with a file: its colours are those of printing, and it does not tell whether they are inverted, as Adobe's
/// are.
pub(super) fn fault(bytes: &[u8]) -> Option<&'static str> {
    let header = Header::of(bytes)?;
    (header.components == 4 && !header.adobe).then_some("its CMYK colours may be inverted or not: save it as RGB")
}

/// Whether a file has a marker of its end, or is none of which this can be told.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    // In compressed data a marker of the end is the end.
    let is_end = |pair: &[u8]| pair == [0xff, 0xd9];
    let data = Header::of(bytes).map(|header| bytes.get(header.data..).unwrap_or_default());
    data.is_none_or(|data| data.windows(2).rev().any(is_end))
}

/// A file without a marker of its end, with one, after different data: the image is whole if it is the same in both, and
/// has no [filled edge](has_filled_edge). None where this does not tell: of several scans one may be missing, and after
/// a restart marker the decoder looks for the next.
pub(super) fn with_ends(bytes: &[u8]) -> Option<[Vec<u8>; 2]> {
    let header = Header::of(bytes).filter(|header| header.is_sequential && header.scanned == header.components)?;
    // Half of a marker is none.
    let data = bytes.strip_suffix(b"\xff").unwrap_or(bytes);
    // More than the most that the smallest unit of an image, of ten blocks, may take.
    (!header.restarts).then(|| [0x00, 0xb5].map(|more| [data, &[more; 4096], &[0xff, 0xd9]].concat()))
}

/// Whether an edge of an image is all of the grey that the decoder fills the rest of a damaged image with.
pub(super) fn has_filled_edge(image: &DynamicImage) -> bool {
    let image = image.to_rgb8();
    let (width, height) = image.dimensions();
    let is_grey = |x: u32, y: u32| image.get_pixel(x, y).0 == [128; 3];
    [0, height.saturating_sub(1)].iter().any(|&y| (0..width).all(|x| is_grey(x, y)))
        || [0, width.saturating_sub(1)].iter().any(|&x| (0..height).all(|y| is_grey(x, y)))
}

/// What the segments before the compressed data say.
struct Header {
    /// Where the compressed data of the first scan begins.
    data: usize,
    components: u8,
    adobe: bool,
    /// Whether each part of the image is coded once, by Huffman's codes.
    is_sequential: bool,
    /// Whether there may be markers in the compressed data.
    restarts: bool,
    /// The components in the first scan.
    scanned: u8,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut header =
            Self { data: 2, components: 0, adobe: false, is_sequential: false, restarts: false, scanned: 0 };
        loop {
            let rest = bytes.get(header.data..)?;
            match *rest.get(..4)? {
                // Filling.
                [0xff, 0xff, ..] => header.data += 1,
                [0xff, marker, high, low] => {
                    header.data += 2 + usize::from(u16::from_be_bytes([high, low]));
                    match marker {
                        // Frames; 0xc4, 0xc8 and 0xcc are other things.
                        0xc0..=0xcf if marker % 4 != 0 || marker == 0xc0 => {
                            header.components = *rest.get(9)?;
                            header.is_sequential = marker <= 0xc1;
                        }
                        0xdd => header.restarts = true,
                        0xee => header.adobe |= rest.get(4..9) == Some(b"Adobe"),
                        0xda => return Some(Self { scanned: *rest.get(4)?, ..header }),
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
    use super::super::Fit;
    use super::super::decode::{Decoded, decode};
    use super::*;
    use image::{ImageFormat, RgbImage};
    use std::io::Cursor;

    #[test]
    fn files_that_end_early_are_cut() {
        let mut file = Cursor::new(Vec::new());
        let image = RgbImage::from_fn(24, 24, |x, y| image::Rgb([10 * x as u8, 10 * y as u8, (7 * x * y) as u8]));
        image.write_to(&mut file, ImageFormat::Jpeg).unwrap();
        let whole = file.into_inner();
        assert!(has_end(&whole) && has_end(&[&whole[..], b"more"].concat()));
        let Header { data, components, adobe, scanned, .. } = Header::of(&whole).unwrap();
        assert_eq!((components, adobe, scanned), (3, false, 3));
        let read = |bytes: &[u8]| decode("a.jpg".as_ref(), bytes, &Fit::default());
        let image = read(&whole).unwrap();
        let cut = |end: usize| read(&whole[..end]);
        for end in data..whole.len() - 4 {
            assert!(cut(end).unwrap_err().to_string().contains("it is cut short"), "{end} of {}", whole.len());
        }
        for end in [whole.len() - 1, whole.len() - 2] {
            assert_eq!(cut(end).unwrap(), Decoded { unended: true, ..image.clone() });
        }
        // A decoder finds other faults.
        assert!([&b""[..], b"\xff\xd8", b"no image"].iter().all(|bytes| has_end(bytes) && with_ends(bytes).is_none()));
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
