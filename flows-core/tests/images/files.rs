//! What image files hold besides 8 bits of grey or colours, and folders besides images.

use flows_core::data::images::{Background, Fit, ImageSource, Images, Splits, image_files, read_files, read_image};
use flows_core::{Result, Rng};
use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

fn all(folder: &Path, fit: &Fit) -> Result<Images> {
    folder.to_string_lossy().parse::<ImageSource>()?.test(fit, None)
}

fn splits(folder: &Path) -> Result<Splits> {
    folder.to_string_lossy().parse::<ImageSource>()?.load(&Fit::default(), None, &mut Rng::seed(0))
}

fn first(images: &Images) -> Vec<u8> {
    (0..images.len()).map(|i| images.image(i)[0]).collect()
}

/// A JPEG file with this EXIF orientation.
fn turned(image: &GrayImage, orientation: u8) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Jpeg).unwrap();
    let entry = [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation], b"\0\0\0\0\0\0"].concat();
    let exif = [b"\xff\xe1\0\x22Exif\0\0", &entry[..]].concat();
    let whole = file.into_inner();
    [&whole[..2], &exif, &whole[2..]].concat()
}

#[test]
fn photos_are_turned_upright() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.jpg");
    // Two rows of three squares.
    let image = GrayImage::from_fn(24, 16, |x, y| Luma([(40 * (x / 8 + 3 * (y / 8))) as u8]));
    for (orientation, size, squares) in [
        (1, [16, 24], [0, 1, 2, 3, 4, 5]),
        (2, [16, 24], [2, 1, 0, 5, 4, 3]),
        (3, [16, 24], [5, 4, 3, 2, 1, 0]),
        (4, [16, 24], [3, 4, 5, 0, 1, 2]),
        (5, [24, 16], [0, 3, 1, 4, 2, 5]),
        (6, [24, 16], [3, 0, 4, 1, 5, 2]),
        (7, [24, 16], [5, 2, 4, 1, 3, 0]),
        (8, [24, 16], [2, 5, 1, 4, 0, 3]),
    ] {
        fs::write(&path, turned(&image, orientation)).unwrap();
        let (shape, values) = read_image(&path)?;
        assert_eq!(shape, [1, size[0], size[1]], "{orientation}");
        let square = |i: usize| {
            let columns = size[1] / 8;
            let value = values[(8 * (i / columns) + 4) * size[1] + 8 * (i % columns) + 4];
            (f64::from(value) / 40.0).round() as usize
        };
        assert_eq!([0, 1, 2, 3, 4, 5].map(square), squares, "{orientation}");
        assert_eq!(all(folder.path(), &Fit::default())?.shape(), shape);
        assert_eq!(read_files(std::slice::from_ref(&path), &Fit::default())?.image(0), values);
    }
    Ok(())
}

#[test]
fn grey_among_colours_is_said_in_any_order() -> Result<()> {
    for grey in ["0.png", "5.png", "9.png"] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for i in 0..10 {
            RgbImage::from_pixel(2, 2, Rgb([i, 7, 200])).save(path(&format!("{i}.png"))).unwrap();
        }
        GrayImage::from_pixel(2, 2, Luma([99])).save(path(grey)).unwrap();
        let images = all(folder.path(), &Fit::default())?;
        assert_eq!(images.shape(), [3, 2, 2]);
        let i: usize = grey[..1].parse().unwrap();
        assert_eq!((images.image(i), images.image(i ^ 1)[4]), (&[99; 12][..], 7));
        assert!(images.notes.len() == 1 && images.notes[0].contains("1 of 10 images is grey"), "{:?}", images.notes);
        for (fit, channels) in [(Fit { grey: true, ..Fit::default() }, 1), (Fit { colour: true, ..Fit::default() }, 3)]
        {
            let images = all(folder.path(), &fit)?;
            assert_eq!((images.shape()[0], images.notes.len()), (channels, 0));
        }
    }
    Ok(())
}

#[test]
fn what_is_behind_transparent_pixels_is_said_and_decided() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    RgbaImage::from_pixel(1, 1, Rgba([10, 20, 30, 255])).save(path("opaque.png")).unwrap();
    assert!(all(folder.path(), &Fit::default())?.notes.is_empty());
    RgbaImage::from_pixel(1, 1, Rgba([10, 20, 30, 0])).save(path("clear.png")).unwrap();
    for (background, value) in [(None, 255), (Some(Background::White), 255), (Some(Background::Black), 0)] {
        let images = all(folder.path(), &Fit { background, ..Fit::default() })?;
        assert_eq!((images.image(0), images.image(1)), (&[value; 3][..], &[10, 20, 30][..]));
        let note = images.notes.first().is_some_and(|note| note.contains("1 of 2 images is transparent"));
        assert_eq!(note, background.is_none(), "{:?}", images.notes);
    }
    Ok(())
}

#[test]
fn only_the_first_of_several_pictures_is_read_and_that_is_said() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let frame = |value: u8| Frame::new(RgbaImage::from_pixel(2, 2, Rgba([value, value, value, 255])));
    GifEncoder::new(File::create(folder.path().join("one.gif")).unwrap()).encode_frame(frame(0)).unwrap();
    assert!(all(folder.path(), &Fit::default())?.notes.is_empty());
    let mut gif = GifEncoder::new(File::create(folder.path().join("two.gif")).unwrap());
    gif.encode_frames([frame(0), frame(200)]).unwrap();
    drop(gif);
    let images = all(folder.path(), &Fit::default())?;
    assert_eq!(first(&images), [0, 0]);
    assert!(images.notes[0].contains("1 of 2 images is an animation"), "{:?}", images.notes);

    let mut file = Cursor::new(Vec::new());
    GrayImage::from_pixel(2, 2, Luma([7])).write_to(&mut file, ImageFormat::Tiff).unwrap();
    let mut tiff = file.into_inner();
    assert!(tiff.starts_with(b"II*\0"));
    let number = |at: usize| u32::from_le_bytes(tiff[at..at + 4].try_into().unwrap()) as usize;
    let start = number(4);
    let end = start + 2 + 12 * (number(start) & 0xffff);
    let (again, page) = (tiff.len() as u32, tiff[start..end + 4].to_vec());
    for (name, next, notes) in [("one.tif", 0, 0), ("two.tif", again, 1)] {
        let folder = tempfile::tempdir().unwrap();
        tiff[end..end + 4].copy_from_slice(&u32::to_le_bytes(next));
        fs::write(folder.path().join(name), [&tiff[..], &page].concat()).unwrap();
        let images = all(folder.path(), &Fit::default())?;
        assert_eq!((first(&images), images.notes.len()), (vec![7], notes), "{:?}", images.notes);
    }
    Ok(())
}

#[test]
fn twelve_bits_in_sixteen_are_seen() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let save = |i: u16, value: u16| {
        let image = ImageBuffer::<Luma<u16>, _>::from_pixel(2, 2, Luma([value]));
        image.save(folder.path().join(format!("{i:02}.png"))).unwrap();
    };
    (0..12).for_each(|i| save(i, 4095 * i / 11));
    let images = all(folder.path(), &Fit::default())?;
    assert_eq!((first(&images)[0], first(&images)[11]), (0, 255));
    assert!(images.notes[0].contains("none above 4095") && images.notes[0].contains("12 bits"), "{:?}", images.notes);
    assert_eq!(splits(folder.path())?.depth(), Some(12));
    // A depth that is asked for is taken without a word, as of single files of a set.
    let one = [folder.path().join("11.png")];
    for (depth, value) in [(Some(16), 16), (Some(12), 255), (None, 255)] {
        let images = read_files(&one, &Fit { depth, ..Fit::default() })?;
        assert_eq!((images.image(0)[0], images.notes.is_empty()), (value, depth.is_some()));
    }
    save(3, 5000);
    let fit = Fit { depth: Some(12), ..Fit::default() };
    let error = all(folder.path(), &fit).unwrap_err().to_string();
    assert!(error.contains("03.png") && error.contains("fit.depth = 14"), "{error}");
    save(3, 65_535);
    let images = all(folder.path(), &Fit::default())?;
    assert_eq!((first(&images)[3], first(&images)[11], images.notes.len()), (255, 16, 0));
    Ok(())
}

#[test]
fn tiff_files_are_read_and_nothing_is_passed_over_in_silence() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for i in 0..6 {
        let name = if i < 2 { format!("{i}.png") } else { format!("{i}.tif") };
        RgbImage::from_pixel(3, 2, Rgb([i, 1, 2])).save(path(&name)).unwrap();
    }
    let images = all(folder.path(), &Fit::default())?;
    assert_eq!((first(&images), images.shape(), images.notes.len()), ((0..6).collect(), [3, 2, 3], 0));
    // Colours as floating-point numbers.
    let float = |value: f32| DynamicImage::ImageRgb32F(ImageBuffer::from_pixel(3, 2, Rgb([value, 0.0, 1.0])));
    float(0.2).save(path("6.tiff")).unwrap();
    assert_eq!(all(folder.path(), &Fit::default())?.image(6)[0], 51);
    float(300.0).save(path("6.tiff")).unwrap();
    let error = all(folder.path(), &Fit::default()).unwrap_err().to_string();
    assert!(error.contains("6.tiff") && error.contains("0 to 1"), "{error}");
    fs::remove_file(path("6.tiff")).unwrap();
    fs::write(path("labels.csv"), "").unwrap();
    fs::write(path("Thumbs.db"), "").unwrap();
    let notes = all(folder.path(), &Fit::default())?.notes;
    assert!(notes.len() == 1 && notes[0].contains("`labels.csv` is not read"), "{notes:?}");
    Ok(())
}

#[test]
fn images_beside_folders_of_images_are_not_left_out() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("thumbs")).unwrap();
    for name in ["1.png", "2.png", "thumbs/1.png"] {
        GrayImage::new(2, 2).save(path(name)).unwrap();
    }
    let error = all(folder.path(), &Fit::default()).unwrap_err().to_string();
    assert!(error.contains("2 images, and 1 image in") && error.contains("`thumbs/`"), "{error}");
    assert_eq!(image_files(&[folder.path().into()])?.len(), 3);
    Ok(())
}

#[test]
fn parts_agree_on_classes_by_name() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, value: u8| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_pixel(2, 2, Luma([value])).save(path).unwrap();
    };
    for i in 0..8 {
        save(&format!("train/cat/{i}.png"), i);
        save(&format!("train/dog/{i}.png"), 20 + i);
    }
    save("val/dog/1.png", 40);
    save("test/dog/1.png", 41);
    save("test/dog/2.png", 42);
    let data = splits(folder.path())?;
    assert_eq!([&data.train, &data.validation, &data.test].map(|part| part.len()), [16, 1, 2]);
    assert_eq!((data.test.labels(), &data.test.classes), (Some(&[1, 1][..]), &data.train.classes));
    assert!(data.notes().is_empty(), "{:?}", data.notes());
    // The content tells whether the images are the same.
    let (before, again) = (data.hash(), splits(folder.path())?.hash());
    save("test/dog/2.png", 3);
    let data = splits(folder.path())?;
    assert!(before == again && before != data.hash());
    assert!(
        data.notes().iter().any(|note| note.contains("1 of 2 test images is a training image")),
        "{:?}",
        data.notes()
    );
    save("val/emu/1.png", 50);
    let error = splits(folder.path()).unwrap_err().to_string();
    assert!(["validation", "`emu`", "`cat`, `dog`"].iter().all(|word| error.contains(word)), "{error}");
    fs::remove_dir_all(folder.path().join("train")).unwrap();
    assert!(splits(folder.path()).unwrap_err().to_string().contains("no images to train on"));
    assert_eq!(all(folder.path(), &Fit::default())?.len(), 2);
    Ok(())
}

#[cfg(unix)]
#[test]
fn links_end_and_dangling_ones_are_named() -> Result<()> {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for class in ["a", "b"] {
        fs::create_dir(path(class)).unwrap();
        GrayImage::new(2, 2).save(path(&format!("{class}/1.png"))).unwrap();
    }
    symlink(".", path("self")).unwrap();
    symlink(".", path("z")).unwrap();
    let images = all(folder.path(), &Fit::default())?;
    assert_eq!((images.len(), &images.classes[..]), (2, &["a", "b"].map(String::from)[..]));
    assert!(images.notes.iter().any(|note| note.contains("`self`, `z` are links")), "{:?}", images.notes);
    symlink("../gone.png", path("a/lost.png")).unwrap();
    let error = all(folder.path(), &Fit::default()).unwrap_err().to_string();
    assert!(["lost.png", "`../gone.png`", "--skip-bad"].iter().all(|word| error.contains(word)), "{error}");
    Ok(())
}
