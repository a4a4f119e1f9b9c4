//! Images that are damaged, mislabelled, too large, too few or of different sizes.

use flate2::Crc;
use flows_core::data::images::{Fit, ImageSource, Images, Splits, read_image};
use flows_core::{Error, Result, Rng};
use image::{GrayImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use tempfile::TempDir;

/// A folder of `count` images of 8 x 8, whose red is their index.
fn folder(count: u8) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..count {
        RgbImage::from_pixel(8, 8, Rgb([i, 0, 0])).save(folder.path().join(format!("{i:02}.png"))).unwrap();
    }
    folder
}

fn all(folder: &Path, skip: Option<&mut dyn FnMut(Error)>) -> Result<Images> {
    folder.to_string_lossy().parse::<ImageSource>()?.test(&Fit::default(), skip)
}

fn splits(folder: &Path, fit: &Fit) -> Result<Splits> {
    folder.to_string_lossy().parse::<ImageSource>()?.load(fit, None, &mut Rng::seed(0))
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_fn(8, 8, |x, y| Rgb([30 * x as u8, 30 * y as u8, 0])).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Files of a few bytes whose headers announce images of gigabytes.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let side = 60_000u32;
    let mut png = encoded(ImageFormat::Png);
    png[16..24].copy_from_slice(&[side.to_be_bytes(), side.to_be_bytes()].concat());
    let mut crc = Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let mut bmp = encoded(ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[side.to_le_bytes(), side.to_le_bytes()].concat());
    let mut jpeg = encoded(ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[side as u16, side as u16].map(u16::to_be_bytes).concat());
    let ppm = format!("P6\n{side} {side}\n255\nabc").into_bytes();
    vec![("bomb.png", png), ("bomb.bmp", bmp), ("bomb.jpg", jpeg), ("bomb.ppm", ppm)]
}

#[test]
fn a_bad_file_is_named_and_can_be_skipped() -> Result<()> {
    let (whole, jpeg) = (encoded(ImageFormat::Png), encoded(ImageFormat::Jpeg));
    let mut bad = vec![
        ("cut.png", whole[..whole.len() / 2].to_vec(), "cannot be read as an image"),
        ("text.png", b"no image at all".to_vec(), "cannot be read as an image"),
        ("empty.jpg", Vec::new(), "cannot be read as an image"),
        ("noise.gif", b"GIF89a\xff\xff\xff\xff\xff\xff".to_vec(), "cannot be read as an image"),
        ("cut.jpg", jpeg[..jpeg.len() - 8].to_vec(), "cut short"),
        ("photo.heic", b"ftypheic".to_vec(), "of a format that is not read; save it as PNG or JPEG"),
    ];
    bad.extend(bombs().into_iter().map(|(name, bytes)| (name, bytes, "too large an image")));
    let folder = folder(12);
    for (name, bytes, why) in &bad {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = all(folder.path(), None).unwrap_err().to_string();
        assert!([name, why, "--skip-bad"].iter().all(|word| error.contains(word)), "{error}");
        fs::remove_file(path).unwrap();
    }
    for (name, bytes, _) in &bad {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let mut errors = Vec::new();
    let images = all(folder.path(), Some(&mut |error| errors.push(error.to_string())))?;
    let reds: Vec<u8> = (0..images.len()).map(|i| images.image(i)[0]).collect();
    assert_eq!(reds, (0..12).collect::<Vec<u8>>());
    assert_eq!(errors.len(), bad.len());
    assert!(bad.iter().all(|(name, ..)| errors.iter().any(|error| error.contains(name))), "{errors:?}");

    let folder = self::folder(0);
    fs::write(folder.path().join("text.png"), b"no image at all").unwrap();
    let error = all(folder.path(), Some(&mut |_| ())).unwrap_err().to_string();
    assert!(error.contains("none of the images can be read"), "{error}");
    Ok(())
}

#[test]
fn formats_are_detected_by_content() -> Result<()> {
    let folder = folder(0);
    let here = folder.path();
    let path = |name: &str| here.join(name);
    fs::write(path("jpeg.png"), encoded(ImageFormat::Jpeg)).unwrap();
    fs::write(path("png.jpg"), encoded(ImageFormat::Png)).unwrap();
    let (shape, jpeg) = read_image(&path("jpeg.png"))?;
    let png = read_image(&path("png.jpg"))?.1;
    assert!(shape == [3, 8, 8] && jpeg.iter().zip(&png).all(|(a, b)| a.abs_diff(*b) < 40));

    // 65535 / 255 = 257.
    ImageBuffer::<Rgb<u16>, _>::from_pixel(2, 2, Rgb([65535u16, 0, 30 * 257])).save(path("deep.png")).unwrap();
    assert_eq!(read_image(&path("deep.png"))?, ([3, 2, 2], [[255; 4], [0; 4], [30; 4]].concat()));
    ImageBuffer::<Luma<u16>, _>::from_pixel(2, 2, Luma([77 * 257u16])).save(path("grey.png")).unwrap();
    assert_eq!(read_image(&path("grey.png"))?, ([1, 2, 2], vec![77; 4]));
    // Half transparent pixels are half way to white.
    ImageBuffer::<Rgba<u8>, _>::from_pixel(1, 1, Rgba([255u8, 0, 100, 51])).save(path("clear.png")).unwrap();
    assert_eq!(read_image(&path("clear.png"))?, ([3, 1, 1], vec![255, 204, 224]));
    ImageBuffer::<LumaA<u8>, _>::from_pixel(1, 1, LumaA([100u8, 0])).save(path("clear.png")).unwrap();
    assert_eq!(read_image(&path("clear.png"))?, ([1, 1, 1], vec![255]));
    Ok(())
}

#[test]
fn images_of_several_sizes_need_one() -> Result<()> {
    let folder = folder(11);
    GrayImage::from_pixel(6, 10, Luma([9])).save(folder.path().join("tall.png")).unwrap();
    let error = all(folder.path(), None).unwrap_err().to_string();
    assert!(["tall.png", "00.png", "--size"].iter().all(|word| error.contains(word)), "{error}");
    let fit = Fit { size: Some([4, 4]), ..Fit::default() };
    assert_eq!(splits(folder.path(), &fit)?.train.shape(), [3, 4, 4]);

    // It would take gigabytes if it were scaled before cropping.
    GrayImage::new(1, 1 << 20).save(folder.path().join("thread.png")).unwrap();
    let fit = Fit { size: Some([32, 32]), ..Fit::default() };
    let error = splits(folder.path(), &fit).unwrap_err().to_string();
    assert!(["thread.png", "too elongated", "--skip-bad"].iter().all(|word| error.contains(word)), "{error}");
    Ok(())
}

#[test]
fn too_few_images_are_an_error() -> Result<()> {
    for count in 0..3 {
        let folder = folder(count);
        let error = splits(folder.path(), &Fit::default()).unwrap_err().to_string();
        let words = if count == 0 { ["has no images", "png"] } else { ["too few", "at least 3"] };
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    let splits = splits(folder(3).path(), &Fit::default())?;
    assert_eq!([splits.train, splits.validation, splits.test].map(|part| part.len()), [1; 3]);
    // One is enough to evaluate.
    assert_eq!(all(folder(1).path(), None)?.len(), 1);
    Ok(())
}
