//! Tar archives, in which NeMo packs its models.
//!
//! See POSIX.1-1988 (ustar) for the headers, and GNU tar's manual for sizes in base 256.

use super::source::{Fault, Source};

const BLOCK: u64 = 512;

/// The largest number of members that is plausible.
const MOST: usize = 10_000;

/// Whether a file that begins with these bytes is a tar archive.
pub(crate) fn is_tar(start: &[u8]) -> bool {
    start.get(257..262).is_some_and(|magic| magic == b"ustar")
}

/// The regular files of an archive, with their names.
pub(crate) fn members(archive: &Source) -> Result<Vec<(String, Source)>, Fault> {
    let (mut members, mut at) = (Vec::new(), 0);
    for _ in 0..MOST {
        // Two blocks of zeros mark the end, which some writers omit.
        if archive.length() - at < BLOCK {
            return Ok(members);
        }
        let header = archive.read(at, BLOCK)?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(members);
        }
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        // The checksum counts itself as blanks.
        let expected = sum(&header) - sum(&header[148..156]) + 8 * u64::from(b' ');
        if number(&header[148..156]) != Some(expected) {
            return Err("a header of the tar archive is damaged".into());
        }
        let size = number(&header[124..136]).ok_or("a member of the tar archive has no size")?;
        let content = archive.slice(at + BLOCK, size)?;
        if matches!(header[156], b'0' | 0) {
            let name = header[..100].split(|byte| *byte == 0).next().unwrap_or_default();
            members.push((String::from_utf8_lossy(name).into_owned(), content));
        }
        // The last member need not be padded.
        at = (at + BLOCK + size.next_multiple_of(BLOCK)).min(archive.length());
    }
    Err(format!("the tar archive has more than {MOST} members").into())
}

/// A number in octal digits or, if the highest bit is set, in base 256.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let shifted = |n: u64, byte: &u8| n.checked_mul(256).map(|n| n + u64::from(*byte));
        return rest.iter().try_fold(u64::from(first & 0x7f), shifted);
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}
