//! Images to learn from: IDX files, the format of MNIST, and NumPy arrays.

use candle_core::{Device, Tensor};
use flate2::read::GzDecoder;
use flows_core::{Error, Result, Rng};
use npyz::{NpyFile, Order};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes of an IDX file that are read at most: 8 GiB.
const MOST: u64 = 8 << 30;

/// At most so many images are held out, to validate and to test on.
const HELD_OUT: [usize; 2] = [500, 1000];

/// Images of one shape as whole colours 0 to 255.
#[derive(Clone, Debug)]
pub struct Images {
    /// Channels, height and width.
    pub shape: [usize; 3],
    values: Vec<u8>,
}

/// Images in three parts.
#[derive(Clone, Debug)]
pub struct Splits {
    pub train: Images,
    pub validation: Images,
    pub test: Images,
}

/// A `.npy` or IDX file of images, or a folder with files `train...` and `test...` or `t10k...`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageSource(PathBuf);

impl Images {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.each()
    }

    fn each(&self) -> usize {
        self.shape.iter().product()
    }

    /// These images, (B, C, H, W) as u8.
    pub fn tensor(&self, indices: &[u32]) -> Result<Tensor> {
        let image = |i: &u32| &self.values[*i as usize * self.each()..(*i as usize + 1) * self.each()];
        let values: Vec<u8> = indices.iter().flat_map(image).copied().collect();
        let [channels, height, width] = self.shape;
        Ok(Tensor::from_vec(values, (indices.len(), channels, height, width), &Device::Cpu)?)
    }

    /// Some of them, drawn at random, and the others.
    fn held_out(self, count: usize, rng: &mut Rng) -> (Self, Self) {
        let order = rng.permutation(self.len());
        let select = |indices: &[u32]| {
            let values = indices.iter().flat_map(|i| {
                let start = *i as usize * self.each();
                &self.values[start..start + self.each()]
            });
            Self { shape: self.shape, values: values.copied().collect() }
        };
        let (out, rest) = order.split_at(count);
        (select(out), select(rest))
    }
}

impl ImageSource {
    /// What a word names, if that is images.
    pub fn of(word: &str) -> Option<Self> {
        let path = Path::new(word);
        let images = match path.is_dir() {
            true => parts(path).is_some(),
            false => is_idx(path) || (is_npy(path) && npy_sizes(path).is_ok()),
        };
        images.then(|| Self(path.into()))
    }

    /// The images in three parts: those to test on are those that the source has, or one in ten, at most
    /// 1,000; those to validate are one in twenty of the others, at most 500.
    pub fn load(&self, rng: &mut Rng) -> Result<Splits> {
        let [validation, test] = HELD_OUT;
        let (test, rest) = match parts(&self.0) {
            Some([train, test]) => (read(&test)?, read(&train)?),
            None => {
                let all = read(&self.0)?;
                let count = (all.len() / 10).clamp(1, test);
                if all.len() < 4 {
                    return Err(Error::file(&self.0, format!("has {} images to divide; give at least 4", all.len())));
                }
                all.held_out(count, rng)
            }
        };
        if test.shape != rest.shape {
            return Err(Error::file(&self.0, "has training and test images of different shapes"));
        }
        let count = (rest.len() / 20).clamp(1, validation);
        let (validation, train) = rest.held_out(count, rng);
        Ok(Splits { train, validation, test })
    }

    /// The images to test on where the source has such, else all.
    pub fn test(&self) -> Result<Images> {
        read(&parts(&self.0).map_or_else(|| self.0.clone(), |[_, test]| test))
    }

    /// The same place whatever the folder that the program is in.
    pub fn absolute(self) -> Result<Self> {
        Ok(Self(std::path::absolute(&self.0).map_err(|e| Error::file(self.0, e))?))
    }
}

impl std::fmt::Display for ImageSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "npy")
}

fn is_idx(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains("idx3") || name.contains("idx4") || name.ends_with(".idx") || name.ends_with(".idx.gz")
}

/// The training and the test part of a folder that has both.
fn parts(path: &Path) -> Option<[PathBuf; 2]> {
    let entries = std::fs::read_dir(path).ok()?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| is_idx(path) || (is_npy(path) && npy_sizes(path).is_ok()));
    paths.sort();
    let find = |prefixes: &[&str]| {
        let named = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        paths.iter().find(named).cloned()
    };
    Some([find(&["train"])?, find(&["test", "t10k"])?])
}

fn read(path: &Path) -> Result<Images> {
    let images = if is_npy(path) { npy(path)? } else { idx(path)? };
    let each: usize = images.shape.iter().product();
    if each == 0 || images.values.is_empty() || !images.values.len().is_multiple_of(each) {
        return Err(Error::file(path, "holds no image; give at least one"));
    }
    Ok(images)
}

fn idx(path: &Path) -> Result<Images> {
    const REMEDY: &str = "fetch the file anew";
    let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
    let mut start = BufReader::new(file);
    let mut bytes = Vec::new();
    let packed = start.fill_buf().is_ok_and(|start| start.starts_with(&[0x1f, 0x8b]));
    let read = match packed {
        true => GzDecoder::new(start).take(MOST).read_to_end(&mut bytes),
        false => start.take(MOST).read_to_end(&mut bytes),
    };
    read.map_err(|e| Error::file(path, format!("is damaged or cut short ({e}); {REMEDY}")))?;
    let [0, 0, 8, rank @ (3 | 4), rest @ ..] = &bytes[..] else {
        return Err(Error::file(path, format!("is no IDX file of unsigned bytes with three or four sizes; {REMEDY}")));
    };
    let Some((sizes, values)) = rest.split_at_checked(4 * usize::from(*rank)) else {
        return Err(Error::file(path, format!("is cut short; {REMEDY}")));
    };
    let sizes: Vec<usize> =
        sizes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    if sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size)) != Some(values.len()) {
        let message = format!("says that it has {sizes:?} bytes, but has {}; {REMEDY}", values.len());
        return Err(Error::file(path, message));
    }
    let shape =
        if let [_, channels, height, width] = sizes[..] { [channels, height, width] } else { [1, sizes[1], sizes[2]] };
    Ok(Images { shape, values: values.to_vec() })
}

/// The shape (N, C, H, W) of an array of images, and whether it is stored as (N, H, W, C).
fn npy_sizes(path: &Path) -> Result<(NpyFile<BufReader<File>>, [usize; 4], bool)> {
    const WANTED: &str = "save unsigned bytes of shape (N, H, W), (N, H, W, C) or (N, C, H, W), C being 1 or 3: \
                          np.save(path, images.astype(\"u1\"))";
    let bad = |what: String| Error::file(path, format!("{what}; {WANTED}"));
    let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
    let length = file.metadata().map_err(|e| Error::file(path, e))?.len();
    let npy = NpyFile::new(BufReader::new(file)).map_err(|e| bad(format!("is no .npy file that can be read ({e})")))?;
    let kind = npy.dtype().descr();
    if kind.trim_matches(['\'', '|', '<', '>']) != "u1" {
        return Err(bad(format!("holds numbers of type {kind}")));
    }
    if npy.order() != Order::C {
        return Err(bad("is in Fortran's order".into()));
    }
    let sizes: Vec<usize> = npy.shape().iter().map(|&size| size as usize).collect();
    let (shape, last) = match sizes[..] {
        [n, height, width] => ([n, 1, height, width], false),
        [n, height, width, channels @ (1 | 3)] => ([n, channels, height, width], true),
        [n, channels @ (1 | 3), height, width] => ([n, channels, height, width], false),
        _ => return Err(bad(format!("has shape {sizes:?}"))),
    };
    let count = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
    if count.is_none_or(|count| count > length) {
        return Err(bad("is cut short".into()));
    }
    Ok((npy, shape, last))
}

fn npy(path: &Path) -> Result<Images> {
    let (npy, [_, channels, height, width], last) = npy_sizes(path)?;
    let values: Vec<u8> =
        npy.into_vec().map_err(|e| Error::file(path, format!("is cut short or damaged ({e}); save it anew")))?;
    let values = match last {
        false => values,
        true => {
            let image = |image: &[u8]| -> Vec<u8> {
                (0..channels).flat_map(|c| image[c..].iter().step_by(channels).copied()).collect()
            };
            values.chunks((height * width * channels).max(1)).flat_map(image).collect()
        }
    };
    Ok(Images { shape: [channels, height, width], values })
}
