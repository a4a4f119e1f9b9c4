//! Tables of numbers: one row per example, one column per variable.

use super::format::Format;
use super::parts::{Frames, Plan};
use super::{Cells, Frame, archive, format, npy, parts, shards, text};
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};
use std::path::Path;

/// A table of finite numbers.
#[derive(Clone, Debug)]
pub struct Table {
    /// The names of the columns, if the file has a header.
    pub columns: Option<Vec<String>>,
    /// The numbers (rows, columns), on the CPU: f32 if the file stores f32, else f64.
    pub data: Tensor,
}

/// Reads a table of numbers.
///
/// The formats are those of [`read_frame`], but every cell has to be a finite number.
///
/// # Errors
/// As [`read_frame`], and [`Error::Data`] when a cell is not a finite number, naming the row (of a text file the line)
/// and the column, both counted from 1.
pub fn read_table(path: impl AsRef<Path>) -> Result<Table> {
    let path = path.as_ref();
    let (frame, single) = match Format::of(path)? {
        Format::Zip | Format::Npz => (read_frame(path)?, false),
        format => format::table(path, format)?,
    };
    let table = numbers(&frame).map_err(|error| match error {
        Error::Data(message) => Error::Data(format!("{}: {message}", path.display())),
        error => error,
    })?;
    Ok(if single { Table { data: table.data.to_dtype(DType::F32)?, ..table } } else { table })
}

/// Reads a table of numbers and words.
///
/// Text (`.csv`, `.tsv`, `.txt`, `.dat`, `.data`, also compressed by gzip or Zstandard): UTF-8, UTF-16 or Latin-1; cells
/// separated by commas, semicolons, tabs, bars or blanks, in quotes or not; decimal points or commas, marks of thousands,
/// Fortran's exponents; lines that begin with `#` are comments. The first row is a header if it has a word above
/// numbers, is all words, or counts the columns as pandas does, or if the last comment before it has as many words.
/// Empty cells, `NA`, `NaN`, `null` and their like are missing, and in columns of numbers `?` as well. What was assumed
/// is among the frame's notes.
///
/// `.npy` (format versions 1 to 3): one dimension (a single column) or two, or records; floats, integers, booleans,
/// strings and dates; either byte order; C or Fortran layout. `.npz`: one such matrix, or columns.
///
/// `.parquet`: numbers, booleans, decimals, strings, dates and times, also within structures and in lists of one length.
///
/// `.zip`: one table, as text or as an array.
///
/// NaN and nulls are missing cells. Dates and times are words such as `2024-02-29T12:30:00`.
///
/// # Errors
/// [`Error::File`] when the file is missing, empty, truncated, malformed or of another kind, or the crate was built
/// without its feature `tables` that the format needs; [`Error::Data`] when a row differs in length from the first.
pub fn read_frame(path: impl AsRef<Path>) -> Result<Frame> {
    let path = path.as_ref();
    let frames = read_frames(path)?;
    if frames.validation.is_some() || frames.test.is_some() {
        return Err(Error::file(path, "holds several parts, such as train and test; save one of them alone"));
    }
    Ok(frames.train)
}

/// Reads the tables of a file or of a folder.
///
/// An archive or a folder may have parts: `train`, `validation` (or `val`, `valid`, `dev`) and `test`, in any format of
/// [`read_frame`], each a file, several with numbers behind the name, or a folder of files. Without such parts, its
/// files are one table, in the order of their names. A file named like `train-00000-of-00003.parquet`, perhaps with a hash
/// behind the count, stands for all three. Files that are not read are named in the notes.
///
/// # Errors
/// As [`read_frame`], and when there are no tables, a shard is missing, or the tables of one part differ in their columns.
pub fn read_frames(path: impl AsRef<Path>) -> Result<Frames> {
    let path = path.as_ref();
    if path.is_dir() {
        return Plan::of_folder(path)?.read(&path.display().to_string(), |name| one(&path.join(name)));
    }
    match Format::of(path)? {
        Format::Zip => archive::zip(path),
        Format::Npz => archive::npz(path),
        _ => Ok(parts::joined(&shards::of_path(path)?, &mut |name| one(&path.with_file_name(name)))?.into()),
    }
}

/// Reads the rows to test with: all rows of a table that is not split.
pub(super) fn read_test(path: &Path) -> Result<Frame> {
    if path.is_dir() {
        return Plan::of_folder(path)?.read_test(&path.display().to_string(), |name| one(&path.join(name)));
    }
    let test = read_frames(path)?.into_test();
    test.ok_or_else(|| Error::file(path, "has no part to test with; save one as `test`"))
}

/// The table of a file that has only one.
fn one(path: &Path) -> Result<Frame> {
    format::table(path, Format::of(path)?).map(|(frame, _)| frame)
}

/// The table of a frame all of whose cells are finite numbers.
pub(super) fn numbers(frame: &Frame) -> Result<Table> {
    let (rows, width) = (frame.rows(), frame.columns.len());
    let mut values = vec![0.0; rows * width];
    for (j, column) in frame.columns.iter().enumerate() {
        let place = |row: usize| format!("row {}, {}", frame.row_name(row), frame.column_name(j));
        match &column.cells {
            Cells::Numbers(cells) => {
                for (row, &value) in cells.iter().enumerate() {
                    if value.is_nan() {
                        return Err(Error::Data(format!(
                            "{} has no number; remove such rows or fill them in",
                            place(row)
                        )));
                    }
                    if value.is_infinite() {
                        let place = place(row);
                        return Err(Error::Data(format!("{place} is {value}; remove such rows or fill them in")));
                    }
                    values[row * width + j] = value;
                }
            }
            cells @ Cells::Words { first_word: (row, word), .. } => {
                let word: String = word.chars().take(40).collect();
                let remedy = match cells.slip() {
                    Some(_) => "correct or remove the row",
                    None => "encode words as numbers or remove the column",
                };
                return Err(Error::Data(format!("{}: `{word}` is not a number; {remedy}", place(*row))));
            }
        }
    }
    Ok(Table { columns: frame.names(), data: Tensor::from_vec(values, (rows, width), &Device::Cpu)? })
}

impl Table {
    /// The table without a share of its rows, drawn at random, and these, of which there is at least one; `part` is what
    /// the note on it calls them.
    pub(super) fn hold_out(&self, share: f64, part: &str, rng: &mut Rng) -> Result<(Self, Self, String)> {
        let rows = self.data.dim(0)?;
        if rows < 2 || !(share > 0.0 && share < 1.0) {
            return Err(Error::Data(format!(
                "there is no {part} part, and it cannot be held out from {rows} rows: give one"
            )));
        }
        let count = ((rows as f64 * share).round() as usize).clamp(1, rows - 1);
        let order = Tensor::from_vec(rng.permutation(rows), rows, self.data.device())?;
        let part_of = |start, length| -> Result<Self> {
            let data = self.data.index_select(&order.narrow(0, start, length)?, 0)?;
            Ok(Self { columns: self.columns.clone(), data })
        };
        let note = format!("there is no {part} part: {count} of the {rows} training rows are held out for it");
        Ok((part_of(count, rows - count)?, part_of(0, count)?, note))
    }

    /// The table as the text of the `.csv` file that [`write_table`] writes.
    ///
    /// # Errors
    /// [`Error::Shape`] as in [`write_table`].
    pub fn to_csv(&self) -> Result<String> {
        let mut text = Vec::new();
        text::write("the table".as_ref(), &mut text, self.columns.as_deref(), &self.writable()?)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The numbers in a dtype that can be written, after checking the names.
    fn writable(&self) -> Result<Tensor> {
        let dims = self.data.dims();
        let (_, width) = self.data.dims2().map_err(|_| Error::shape("the table", dims, "(rows, columns)"))?;
        if let Some(columns) = self.columns.as_ref().filter(|c| c.len() != width) {
            return Err(Error::shape("the table", dims, format!("(rows, {}), one name per column", columns.len())));
        }
        Ok(match self.data.dtype() {
            DType::F32 | DType::F64 => self.data.clone(),
            DType::F16 | DType::BF16 => self.data.to_dtype(DType::F32)?,
            _ => self.data.to_dtype(DType::F64)?,
        })
    }
}

/// Writes a table to a `.npy` file (without column names) or a `.csv` file, atomically.
///
/// Numbers are preserved exactly; f32 and f64 keep their dtype in `.npy`.
///
/// # Errors
/// [`Error::Shape`] when the data does not have two dimensions or there is not one name per column;
/// [`Error::File`] for any other extension; [`Error::Io`] when the file cannot be written.
pub fn write_table(path: impl AsRef<Path>, table: &Table) -> Result<()> {
    let path = path.as_ref();
    let (is_array, data) = (is_array(path)?, table.writable()?);
    crate::files::write_atomically(path, |file| match is_array {
        true => npy::write(path, file, &data),
        false => text::write(path, file, table.columns.as_deref(), &data),
    })
}

/// Writes a table of numbers and words to a `.csv` file, atomically; one of numbers alone to a `.npy` file as well.
///
/// # Errors
/// As [`write_table`], and when words cannot be written as `.npy`.
pub fn write_frame(path: impl AsRef<Path>, frame: &Frame) -> Result<()> {
    let path = path.as_ref();
    if !is_array(path)? {
        return crate::files::write_atomically(path, |file| text::write_frame(path, file, frame));
    }
    let mut columns = Vec::with_capacity(frame.columns.len());
    for (i, column) in frame.columns.iter().enumerate() {
        match &column.cells {
            Cells::Numbers(values) => columns.push(Tensor::from_slice(values, values.len(), &Device::Cpu)?),
            Cells::Words { .. } => {
                let message = format!("cannot hold the words of {}; choose .csv", frame.column_name(i));
                return Err(Error::file(path, message));
            }
        }
    }
    write_table(path, &Table { columns: None, data: Tensor::stack(&columns, 1)?.contiguous()? })
}

/// Whether a file to write is an array, or a text.
pub(crate) fn is_array(path: &Path) -> Result<bool> {
    match path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).as_deref() {
        Some("npy") => Ok(true),
        Some("csv" | "tsv") => Ok(false),
        _ => Err(Error::file(path, "is neither .npy nor .csv; choose one of them to write")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use npyz::WriterBuilder;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use std::fs;

    fn read(name: &str, content: &[u8]) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        read_table(path)
    }

    fn rows(table: &Table) -> Vec<Vec<f64>> {
        table.data.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
    }

    fn npy<T: npyz::Serialize>(descr: &str, order: npyz::Order, shape: &[u64], values: Vec<T>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let dtype = npyz::DType::new_scalar(descr.parse().unwrap());
        let options = npyz::WriteOptions::<T>::new().dtype(dtype).shape(shape).order(order).writer(&mut bytes);
        let mut writer = options.begin_nd().unwrap();
        writer.extend(values).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn npy_of_every_type_order_and_layout() {
        use npyz::Order::{C, Fortran};
        let want = vec![vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]];
        for descr in ["<f4", ">f4"] {
            let table = read("a.npy", &npy(descr, C, &[2, 3], vec![1f32, 2., 3., 4., 5., 6.])).unwrap();
            assert_eq!((rows(&table), table.data.dtype()), (want.clone(), DType::F32));
        }
        let table = read("a.NPY", &npy(">f8", Fortran, &[2, 3], vec![1f64, 4., 2., 5., 3., 6.])).unwrap();
        assert_eq!((rows(&table), table.data.dtype()), (want.clone(), DType::F64));
        for order in ["<", ">"] {
            let d = |t: &str| format!("{order}{t}");
            assert_eq!(rows(&read("a.npy", &npy(&d("i2"), C, &[2, 3], vec![1i16, 2, 3, 4, 5, 6])).unwrap()), want);
            assert_eq!(rows(&read("a.npy", &npy(&d("u4"), C, &[2, 3], vec![1u32, 2, 3, 4, 5, 6])).unwrap()), want);
            assert_eq!(rows(&read("a.npy", &npy(&d("i8"), C, &[2, 3], vec![1i64, 2, 3, 4, 5, 6])).unwrap()), want);
        }
        assert_eq!(rows(&read("a.npy", &npy("|i1", C, &[3], vec![-1i8, 0, 1])).unwrap()), [[-1.0], [0.0], [1.0]]);
        assert_eq!(rows(&read("a.npy", &npy("|b1", C, &[2], vec![true, false])).unwrap()), [[1.0], [0.0]]);
        // The bytes written by np.save.
        let header = "{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }";
        let bytes = [b"\x93NUMPY\x01\x00\x76\x00", format!("{header:117}\n\x01\x00\x02\x01").as_bytes()].concat();
        assert_eq!(rows(&read("a.npy", &bytes).unwrap()), [[1.0], [258.0]]);
    }

    /// Records, words and dates, as np.save writes them.
    #[test]
    fn npy_of_columns_that_are_not_all_numbers() {
        let array = |header: &str, numbers: &[u8]| {
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((header.len() as u16).to_le_bytes());
            [&bytes, header.as_bytes(), numbers].concat()
        };
        let header = "{'descr': [('mass', '>f4'), ('', '|V2'), ('at', '<i2', (2,)), ('kind', '|S2')], 'fortran_order': False, \
                      'shape': (2,), }\n";
        let row = |mass: f32, at: i16, kind: &[u8; 2]| {
            [&mass.to_be_bytes()[..], &[9, 9], &at.to_le_bytes(), &[7, 0], kind].concat()
        };
        let records = frame("a.npy", &array(header, &[row(1.5, -1, b"a\0"), row(f32::NAN, 2, b"bc")].concat()));
        assert_eq!(records.names().unwrap(), ["mass", "at.0", "at.1", "kind"]);
        assert!((0..2).map(|row| records.columns[0].cells.is_missing(row)).eq([false, true]));
        assert_eq!(records.columns[1].cells, Cells::Numbers(vec![-1.0, 2.0]));
        assert_eq!(records.columns[3].cells.text(1).as_deref(), Some("bc"));
        for (kind, numbers, want) in [
            ("<U1", &[0x61u32, 0xe9].map(u32::to_le_bytes).concat(), [Some("a"), Some("é")]),
            (
                "<f2",
                &[0x3800u16, 0x0001].map(u16::to_le_bytes).concat(),
                [Some("0.5"), Some("0.00000005960464477539063")],
            ),
            ("<M8[D]", &[19_782i64, i64::MIN].map(i64::to_le_bytes).concat(), [Some("2024-02-29"), None]),
            (
                ">M8[ms]",
                &[1500i64, 0].map(i64::to_be_bytes).concat(),
                [Some("1970-01-01T00:00:01.5"), Some("1970-01-01")],
            ),
            ("<M8[M]", &[-1i64, 14].map(i64::to_le_bytes).concat(), [Some("1969-12-01"), Some("1971-03-01")]),
        ] {
            let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (2,), }}\n");
            let cells = &frame("a.npy", &array(&header, numbers)).columns[0].cells;
            assert_eq!([0, 1].map(|row| cells.text(row)), want.map(|word| word.map(Into::into)), "{kind}");
        }
    }

    #[test]
    fn tables_round_trip() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let values = [0.1, -1e300, 5e-324, 3.0, 1.0 / 3.0, 0.0];
        let columns = Some(vec!["a, b".to_string(), "\"q\"".into()]);
        let table = Table { columns, data: Tensor::from_slice(&values, (3, 2), &Device::Cpu)? };
        for (name, has_names) in [("a.npy", false), ("a.csv", true)] {
            write_table(folder.path().join(name), &table)?;
            let back = read_table(folder.path().join(name))?;
            assert_eq!(rows(&back), rows(&table));
            assert_eq!(back.columns, table.columns.clone().filter(|_| has_names));
        }
        // An independent writer produces the same file.
        let bytes = fs::read(folder.path().join("a.npy")).unwrap();
        assert_eq!(bytes, npy("<f8", npyz::Order::C, &[3, 2], values.to_vec()));
        let single = Table { columns: None, data: Tensor::new(&[[0.1f32], [1e-40]], &Device::Cpu)? };
        write_table(folder.path().join("b.npy"), &single)?;
        let back = read_table(folder.path().join("b.npy"))?;
        assert_eq!((rows(&back), back.data.dtype()), (rows(&single), DType::F32));
        let wrong = Table { columns: Some(vec!["a".into()]), data: table.data };
        assert!(write_table(folder.path().join("c.csv"), &wrong).is_err());
        Ok(())
    }

    #[test]
    fn csv_separators_headers_and_blanks() -> Result<()> {
        for text in ["a,b\n1,2\n3,4\n", "a;b\r\n1;2\r\n\r\n3;4", "\u{feff}a\tb\n 1\t2 \n3\t4\n\n", "# a, b\n1,2\n3,4"] {
            let table = read("a.csv", text.as_bytes())?;
            assert_eq!(rows(&table), [[1.0, 2.0], [3.0, 4.0]], "{text:?}");
            assert_eq!(table.columns, Some(vec!["a".to_string(), "b".into()]), "{text:?}");
        }
        let table = read("a.csv", b"\"1e-3\",+2\n-3,.5")?;
        assert_eq!((rows(&table), table.columns), (vec![vec![1e-3, 2.0], vec![-3.0, 0.5]], None));
        Ok(())
    }

    /// A table as it is read: names, numbers, and kinds of columns where they are not all numbers.
    fn frame(name: &str, content: &[u8]) -> Frame {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        read_frame(path).unwrap()
    }

    #[test]
    fn text_in_the_dialects_that_occur() {
        let utf16: Vec<u8> = "\u{feff}a,b\n1,2.5\n3,4\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cases: [(&[u8], &[&str]); 16] = [
            (b"a|b\n1|2.5\n3|4\n", &["a", "b"]),
            (b"a;b\n1;2,5\n3;4,0\n", &["a", "b"]),
            (b"1.0 2.5\n3 4\n", &[]),
            (b"# run 7\n# a b\n1 2.5\n3 4\n", &["a", "b"]),
            (b"# %ECSV 1.0\n# ---\na b\n1 2.5\n3 4\n", &["a", "b"]),
            (b"\"a\", \"b\"\n1, 2.5\n3, 4\n", &["a", "b"]),
            (b"sep=;\r\na;b\r\n1;2.5\r\n3;4\r\n", &["a", "b"]),
            (b"a,b,\n1,2.5,\n3,4,\n", &["a", "b"]),
            (b"a,b\r1,2.5\r3,4\r", &["a", "b"]),
            (b"\"size, m\",2019\n1,2.5\n3,4\n", &["size, m", "2019"]),
            (b"a,a\n1,2.5\n3,4\n", &["a", "a.1"]),
            (b"day,inf\n1,2.5\n3,4\n", &["day", "inf"]),
            (b"a,b\n1,25.0D-01\n3,.4e1\n", &["a", "b"]),
            (b"# x\n1,2.5\n# between\n3,4\n", &[]),
            (b"Temp\xe9,b\n1,2.5\n3,4\n", &["Tempé", "b"]),
            (&utf16, &["a", "b"]),
        ];
        for (text, names) in cases {
            let found = frame("a.csv", text);
            let shown = String::from_utf8_lossy(text);
            let columns: Vec<&Cells> = found.columns.iter().map(|column| &column.cells).collect();
            assert_eq!(columns, [&Cells::Numbers(vec![1.0, 3.0]), &Cells::Numbers(vec![2.5, 4.0])], "{shown:?}");
            let names = names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
            assert_eq!(found.names().unwrap_or_default(), names, "{shown:?}");
        }
        // Marks of thousands, missing cells, columns that pandas numbers, names of rows that R writes.
        let thousands = frame("a.csv", b"price,area\n\"80,777\",1.5\n\"1,620,499\",2\n");
        assert_eq!(thousands.columns[0].cells, Cells::Numbers(vec![80_777.0, 1_620_499.0]));
        assert!(thousands.notes[0].contains("thousands"));
        let missing = frame("a.csv", b"a,b\nNA,x\n1,\n?,y\n");
        assert!((0..3).map(|row| missing.columns[0].cells.is_missing(row)).eq([true, false, true]));
        assert!((0..3).map(|row| missing.columns[1].cells.is_missing(row)).eq([false, true, false]));
        let numbered = frame("a.csv", b",0,1,2\n0,.5,.5,.5\n1,1.5,1.5,1.5\n");
        assert_eq!((numbered.rows(), numbered.names().unwrap().concat()), (2, "012".to_string()));
        let rows = frame("a.csv", b"a b\nx 1 2\ny 3 4\n");
        assert_eq!((rows.rows(), rows.names().unwrap()), (2, vec![String::new(), "a".into(), "b".into()]));
        let slip = frame("a.csv", &[b"a\n".to_vec(), b"1\n".repeat(20), b"x\n".to_vec()].concat());
        assert_eq!(slip.columns[0].cells.slip(), Some(&(20, "x".to_string())));
        assert_eq!(slip.row_name(20), 22);
    }

    #[test]
    fn every_error_says_where_and_what_to_do() {
        let header = |text: &str| {
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.as_bytes());
            bytes
        };
        let huge = header("{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000, 1000), }\n");
        let overflow = header("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }\n");
        let hidden = header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296), }\n");
        let nested = header(&"[".repeat(60_000));
        let c = npyz::Order::C;
        let cases: [(&str, &[u8], &[&str]); 31] = [
            ("a.csv", b"", &["empty"]),
            ("a.csv", b"\n\n", &["empty"]),
            ("a.csv", b"a,b\n", &["header", "no rows"]),
            ("a.csv", b"a,b\n1,2\n\n3\n", &["row 4", "1 cell", "2"]),
            ("a.csv", b"\r\n1,2\r\n3,4\r\n\r\n\r\n5,x\r\n", &["row 6, column 2"]),
            ("a.csv", b"1,2\n3,4,5\n", &["row 2", "3 cells", "2"]),
            ("a.csv", b"a,b\n1,2\n3,x\n", &["row 3, column 2 (`b`)", "`x`", "not a number"]),
            ("a.csv", b"1,b\n", &["header", "no rows"]),
            ("a.csv", b"1,2\n3,\n", &["row 2, column 2", "has no number"]),
            ("a.csv", b"1,2\nnan,4\n", &["row 2, column 1 has no number"]),
            ("a.csv", b"a,b\nf,1\nm,2\n", &["row 2, column 1 (`a`)", "`f`", "remove the column"]),
            ("a.csv.gz", b"\x1f\x8b and so on", &["damaged"]),
            ("a.csv", b"BZh9 and so on", &["bzip2", "unpack"]),
            ("a.csv", b"1,2\n3,1e999\n", &["row 2, column 2 is inf"]),
            ("a.csv", b"1,\xff\xfe\n", &["header", "no rows"]),
            ("a.npy", b"", &["empty"]),
            ("a.npy", b"PK\x03\x04 and so on", &["not a .npy file"]),
            ("a.npy", b"\x93NUMPY\x01\x00\xff\xff{'descr'", &["truncated"]),
            ("a.npy", b"\x93NUMPY\x09\x00\x01\x00{", &["version 9"]),
            ("a.npy", &header("{'descr': '<f8', 'shape': (1, 2), }\n"), &["`fortran_order`", "np.save"]),
            ("a.npy", &header("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}"), &["truncated"]),
            (
                "a.npy",
                &header("{'descr': [('a', [('b', '<f8')])], 'fortran_order': False, 'shape': (1,)}"),
                &["records"],
            ),
            ("a.npy", &header("{'descr': '<c16', 'fortran_order': False, 'shape': (1,)}"), &["array.real"]),
            ("a.npy", &header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"), &["`|O`", "astype"]),
            ("a.npy", &huge, &["truncated", "4000000000"]),
            ("a.npy", &overflow, &["truncated"]),
            ("a.npy", &hidden, &["truncated"]),
            ("a.npy", &nested, &["malformed", "np.save"]),
            ("a.npy", &npy("<f8", c, &[2, 2, 1], vec![1f64, 2., 3., 4.]), &["3 dimensions", "reshape"]),
            ("a.npy", &npy("<f8", c, &[0, 2], Vec::<f64>::new()), &["no rows"]),
            ("a.npy", &npy("<f8", c, &[2, 2], vec![1f64, 2., f64::INFINITY, 4.]), &["row 2, column 1 is inf"]),
        ];
        for (name, content, wanted) in cases {
            let read = read(name, content).map(|table| rows(&table));
            let error = read.expect_err(&String::from_utf8_lossy(content)).to_string();
            assert!(wanted.iter().all(|w| error.contains(w)), "{error:?} lacks some of {wanted:?}");
        }
        let fortran = npy("<f8", npyz::Order::Fortran, &[2, 2], vec![1f64, f64::NAN, 3., 4.]);
        assert!(read("a.npy", &fortran).unwrap_err().to_string().contains("row 2, column 1 has no number"));
        let cut = &npy("<f8", c, &[2, 2], vec![1f64, 2., 3., 4.]);
        assert!(read("a.npy", &cut[..cut.len() - 1]).unwrap_err().to_string().contains("truncated"));
        assert!(read("a.doc", b"1").unwrap_err().to_string().contains("neither .npy nor .csv"));
        assert!(read_table("no/such.csv").unwrap_err().to_string().contains("no such file"));
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d.npy")).unwrap();
        assert!(read_table(folder.path().join("d.npy")).unwrap_err().to_string().contains("folder"));
    }

    /// The table, or none if it is refused. Checks that a table has rows and columns of finite numbers, one name per
    /// column if any, and survives writing and reading; and that a refusal names the file and, if it concerns a number,
    /// the row.
    fn table_or_refusal(name: &str, content: &[u8]) -> Option<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        match read_table(&path) {
            Ok(table) => {
                let (height, width) = table.data.dims2().unwrap();
                assert!(height > 0 && width > 0, "{table:?}");
                assert!(rows(&table).iter().flatten().all(|v| v.is_finite()), "{table:?}");
                assert!(table.columns.as_ref().is_none_or(|names| names.len() == width), "{table:?}");
                let bare = Table { columns: None, ..table.clone() };
                write_table(&path, &bare).unwrap();
                assert_eq!(rows(&read_table(&path).unwrap()), rows(&table));
                Some(table)
            }
            Err(error) => {
                let message = error.to_string();
                let row = match error {
                    Error::File { path: named, .. } => named == path,
                    Error::Data(_) => message.contains("row "),
                    other => panic!("{other:?}"),
                };
                assert!(row && message.starts_with(&format!("{}: ", path.display())), "{message}");
                None
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 256, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
        })]

        #[test]
        fn any_bytes_are_a_table_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            table_or_refusal("a.csv", &bytes);
            prop_assert!(table_or_refusal("a.npy", &bytes).is_none());
            prop_assert!(table_or_refusal("a.npy", &[b"\x93NUMPY\x01\x00", &bytes[..]].concat()).is_none());
        }

        #[test]
        fn any_csv_like_text_is_a_table_or_an_error(text in "[-0-9a,;\t\"\r\n#. e]{0,60}") {
            if let Some(table) = table_or_refusal("a.csv", text.as_bytes()) {
                let separators = text.matches([',', ';', ' ', '\t', '\n', '\r']).count();
                prop_assert!(table.data.elem_count() <= separators + 1, "{:?} is {:?}", text, table);
            }
        }

        #[test]
        fn any_damaged_npy_is_a_table_or_an_error(
            at in 0usize..200,
            byte: u8,
            length in prop_oneof![Just(usize::MAX), 0usize..160],
        ) {
            let whole = npy("<f8", npyz::Order::C, &[2, 2], vec![1f64, 2., 3., 4.]);
            let mut bytes = whole.clone();
            if let Some(b) = bytes.get_mut(at) {
                *b = byte;
            }
            bytes.truncate(length);
            let table = table_or_refusal("a.npy", &bytes);
            if bytes == whole {
                prop_assert_eq!(table.map(|table| rows(&table)), Some(vec![vec![1.0, 2.0], vec![3.0, 4.0]]));
            } else if whole.starts_with(&bytes) {
                prop_assert!(table.is_none(), "{} bytes of {} are a table", bytes.len(), whole.len());
            } else if let Some(table) = table {
                prop_assert!(table.data.elem_count() <= 32, "{:?}", table);
            }
        }
    }
}
