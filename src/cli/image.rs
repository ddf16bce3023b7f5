//! Pictures as model inputs, prepared as torchvision's classification presets do it: resize the shorter side, crop the
//! centre, scale to 0..1, subtract the mean and divide by the standard deviation.
//!
//! Reference: <https://docs.pytorch.org/vision/stable/transforms.html>.

use std::io::{Cursor, Read};
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{ImageFormat, ImageReader, RgbImage};
use sconce::Tensor;

use super::{Failure, Result};

/// How pictures become model inputs.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Image options")]
#[group(skip)]
pub(crate) struct Args {
    /// Resize a picture so that its shorter side has this many pixels (bilinear, antialiased), or `none`
    #[arg(long, value_name = "N", default_value = "256", value_parser = parse_side)]
    resize: Side,

    /// Then cut this many pixels square from its centre, or `none`
    #[arg(long, value_name = "N", default_value = "224", value_parser = parse_side)]
    crop: Side,

    /// Subtract these from red, green and blue, which go from 0 to 1
    #[arg(long, value_name = "R,G,B", default_value = "0.485,0.456,0.406", value_parser = parse_channels)]
    mean: [f32; 3],

    /// Then divide by these
    #[arg(long, value_name = "R,G,B", default_value = "0.229,0.224,0.225", value_parser = parse_deviation)]
    std: [f32; 3],
}

/// A length in pixels, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Side(Option<u32>);

fn parse_side(text: &str) -> Result<Side, String> {
    if text == "none" {
        return Ok(Side(None));
    }
    match text.parse() {
        Ok(side @ 1..=16384) => Ok(Side(Some(side))),
        _ => Err("a number of pixels from 1 to 16384 or `none` is expected".to_owned()),
    }
}

fn parse_channels(text: &str) -> Result<[f32; 3], String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    let finite = numbers.filter(|numbers| numbers.iter().all(|x| x.is_finite()));
    let channels = finite.and_then(|numbers| numbers.try_into().ok());
    channels.ok_or_else(|| "three numbers with commas between them are expected".to_owned())
}

fn parse_deviation(text: &str) -> Result<[f32; 3], String> {
    let channels = parse_channels(text)?;
    if channels.contains(&0.0) { Err("a standard deviation of 0 divides by zero".to_owned()) } else { Ok(channels) }
}

impl Args {
    /// The pictures as one `float32` tensor `[count, 3, height, width]`.
    ///
    /// # Errors
    /// When a picture cannot be read, is smaller than the crop, or is not as large as the first one.
    pub(crate) fn read_batch(&self, paths: &[&Path]) -> Result<Tensor> {
        let mut data = Vec::new();
        let mut size = None;
        for path in paths {
            let name = path.display();
            let picture = open(path)?;
            let picture = self.frame(&picture).map_err(|message| Failure::new(format!("`{name}`: {message}")))?;
            let first = *size.get_or_insert(picture.dimensions());
            if first != picture.dimensions() {
                let (found, expected) = (show(picture.dimensions()), show(first));
                return Err(Failure::new(format!("`{name}` is {found} pixels, the first picture is {expected}"))
                    .help("pictures of one batch have one size; use `--crop`"));
            }
            self.normalize(&picture, &mut data);
        }
        let (width, height) = size.unwrap_or_default();
        Ok(Tensor::new([paths.len(), 3, height as usize, width as usize], data)?)
    }

    /// Resizes and crops.
    fn frame(&self, picture: &RgbImage) -> Result<RgbImage, String> {
        let picture = match self.resize {
            Side(Some(side)) => resize(picture, side)?,
            Side(None) => picture.clone(),
        };
        let Side(Some(side)) = self.crop else { return Ok(picture) };
        let (width, height) = picture.dimensions();
        if width < side || height < side {
            return Err(format!("{} pixels are too few to crop {}", show((width, height)), show((side, side))));
        }
        // torchvision rounds halves to even.
        let start = |length: u32| (f64::from(length - side) / 2.0).round_ties_even() as u32;
        Ok(imageops::crop_imm(&picture, start(width), start(height), side, side).to_image())
    }

    /// Appends the planes of red, green and blue.
    fn normalize(&self, picture: &RgbImage, data: &mut Vec<f32>) {
        for channel in 0..3 {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            data.extend(picture.pixels().map(|pixel| (f32::from(pixel[channel]) / 255.0 - mean) / std));
        }
    }
}

/// Decodes a PNG or JPEG file, told apart by content.
fn open(path: &Path) -> Result<RgbImage> {
    let fail = |error: String| Failure::new(format!("`{}`: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let reader =
        ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(|error| fail(error.to_string()))?;
    if reader.format() == Some(ImageFormat::Jpeg) && is_cut_short(&bytes) {
        return Err(fail("the picture is truncated".into()));
    }
    let picture = reader.decode().map_err(|error| fail(error.to_string()))?;
    Ok(picture.to_rgb8())
}

/// Whether a JPEG file ends before its picture does: the decoder fills up what is missing with grey.
fn is_cut_short(jpeg: &[u8]) -> bool {
    let last = |marker: [u8; 2]| jpeg.windows(2).rposition(|pair| pair == marker);
    // The end of the picture comes after the start of its last scan; within a scan neither marker occurs.
    last([0xff, 0xd9]) < last([0xff, 0xda]) || last([0xff, 0xd9]).is_none()
}

/// Scales so that the shorter side is `side` pixels. `Triangle` widens its support when it shrinks, which is what
/// Pillow's bilinear and torchvision's `antialias=True` do; results differ from theirs by at most one level of 255.
fn resize(picture: &RgbImage, side: u32) -> Result<RgbImage, String> {
    let (width, height) = picture.dimensions();
    let long = |long: u32, short: u32| {
        let pixels = u64::from(side) * u64::from(long) / u64::from(short.max(1));
        u32::try_from(pixels).ok().filter(|&pixels| pixels <= 65_536)
    };
    let (new_width, new_height) =
        if width <= height { (Some(side), long(height, width)) } else { (long(width, height), Some(side)) };
    match (new_width, new_height) {
        (Some(width), Some(height)) => Ok(imageops::resize(picture, width, height, FilterType::Triangle)),
        _ => Err(format!("{} pixels are too long and narrow to resize", show((width, height)))),
    }
}

fn show((width, height): (u32, u32)) -> String {
    format!("{width} x {height}")
}

/// What a model input file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Npy,
    Image,
}

impl Kind {
    /// Tells by the first bytes of the file, never by its name.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let name = path.display();
        let mut start = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(8).read_to_end(&mut start))
            .map_err(|error| Failure::new(format!("`{name}`: {error}")))?;
        if start.starts_with(b"\x93NUMPY") {
            Ok(Self::Npy)
        } else if start.starts_with(b"\x89PNG") || start.starts_with(b"\xff\xd8\xff") {
            Ok(Self::Image)
        } else {
            Err(Failure::new(format!("`{name}` is neither a `.npy` file nor a PNG or JPEG picture")))
        }
    }
}

/// Reads the files in their order: each `.npy` file is an input, neighbouring pictures are one input with a batch.
pub(crate) fn read_inputs(paths: &[impl AsRef<Path>], args: &Args) -> Result<Vec<Tensor>> {
    let paths: Vec<&Path> = paths.iter().map(AsRef::as_ref).collect();
    let kinds: Vec<Kind> = paths.iter().map(|path| Kind::of(path)).collect::<Result<_>>()?;
    let mut inputs = Vec::new();
    let mut at = 0;
    while at < paths.len() {
        if kinds[at] == Kind::Npy {
            inputs.push(Tensor::read_npy(paths[at])?);
            at += 1;
        } else {
            let end = at + kinds[at..].iter().take_while(|&&kind| kind == Kind::Image).count();
            inputs.push(args.read_batch(&paths[at..end])?);
            at = end;
        }
    }
    Ok(inputs)
}

/// Whether every input file is a picture.
pub(crate) fn all_images(paths: &[impl AsRef<Path>]) -> Result<bool> {
    paths.iter().try_fold(!paths.is_empty(), |all, path| Ok(all && Kind::of(path.as_ref())? == Kind::Image))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(name: &str) -> std::path::PathBuf {
        format!("{}/tests/data/image/{name}", env!("CARGO_MANIFEST_DIR")).into()
    }

    fn args(resize: Option<u32>, crop: Option<u32>) -> Args {
        Args { resize: Side(resize), crop: Side(crop), mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }

    /// The largest difference to the tensor torchvision made (tools/image_files.py), in levels of 255 before the
    /// normalisation.
    fn levels_off(x: &Tensor, reference: &str) -> f32 {
        let reference = Tensor::read_npy(data(reference)).unwrap();
        assert_eq!(x.shape(), reference.shape());
        let (a, b) = (x.to_f32().unwrap(), reference.to_f32().unwrap());
        a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) * 0.225 * 255.0
    }

    #[test]
    fn prepares_as_torchvision_does() {
        let (wide, tall) = (data("wide.png"), data("tall.png"));
        let x = args(Some(16), Some(12)).read_batch(&[&wide, &tall]).unwrap();
        assert!(levels_off(&x, "shrunk.npy") < 1.05, "{}", levels_off(&x, "shrunk.npy"));
        let x = args(Some(64), Some(25)).read_batch(&[&wide, &tall]).unwrap();
        assert!(levels_off(&x, "enlarged.npy") < 1.05, "{}", levels_off(&x, "enlarged.npy"));
        let x = args(None, Some(21)).read_batch(&[&wide, &tall]).unwrap();
        assert!(levels_off(&x, "cropped.npy") < 1e-3, "{}", levels_off(&x, "cropped.npy"));
    }

    #[test]
    fn a_truncated_jpeg_is_noticed() {
        let whole = [0xff, 0xd8, 0xff, 0xda, 1, 2, 3, 0xff, 0xd9];
        assert!(!is_cut_short(&whole));
        assert!((1..whole.len()).all(|len| is_cut_short(&whole[..len])));
    }

    #[test]
    fn decodes_jpeg() {
        // Decoders differ in how they round the enlarged colours: by four levels here.
        let x = args(None, None).read_batch(&[&data("wide.jpg")]).unwrap();
        assert!(levels_off(&x, "jpeg.npy") < 5.0, "{}", levels_off(&x, "jpeg.npy"));
    }

    #[test]
    fn refuses_with_the_name() {
        let too_small = args(None, Some(500)).read_batch(&[&data("wide.png")]).unwrap_err().to_string();
        assert!(too_small.contains("wide.png`: ") && too_small.contains("500 x 500"), "{too_small}");
        let uneven = args(None, None).read_batch(&[&data("wide.png"), &data("tall.png")]).unwrap_err().to_string();
        assert!(uneven.contains("tall.png` is ") && uneven.contains("--crop"), "{uneven}");
        let text = Kind::of(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).unwrap_err().to_string();
        assert!(text.contains("neither"), "{text}");
    }

    #[test]
    fn reads_options() {
        assert_eq!(parse_channels("0.5, 1,2").unwrap(), [0.5, 1.0, 2.0]);
        for wrong in ["", "1,2", "1,2,3,4", "1,2,x", "1,2,3,", "1,,2,3", "1,2,inf"] {
            assert!(parse_channels(wrong).is_err(), "{wrong}");
        }
        assert!(parse_deviation("1,0,1").is_err());
        assert_eq!(parse_side("none").unwrap(), Side(None));
        assert!(parse_side("0").is_err() && parse_side("224.0").is_err());
    }
}
