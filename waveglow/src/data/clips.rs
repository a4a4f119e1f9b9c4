//! Clips of audio of one rate.

use flows_core::data::Hash;

/// Recordings of one channel at one sampling rate.
#[derive(Clone, Debug, Default)]
pub struct Clips {
    /// Where each comes from.
    pub names: Vec<String>,
    /// The samples of each; full scale is 1.
    pub signals: Vec<Vec<f32>>,
}

/// Clips to train on, to choose the best weights by, and to test with.
#[derive(Clone, Debug, Default)]
pub struct Splits {
    /// The clips to train on.
    pub train: Clips,
    /// Those to validate with.
    pub validation: Clips,
    /// Those to test with.
    pub test: Clips,
    /// The number of clips of all parts, before one is cut.
    pub count: usize,
}

impl Clips {
    /// The number of clips.
    pub fn len(&self) -> usize {
        self.signals.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.signals.is_empty()
    }

    /// The number of samples of all clips.
    pub fn samples(&self) -> usize {
        self.signals.iter().map(Vec::len).sum()
    }

    /// Adds a clip.
    pub fn push(&mut self, name: String, signal: Vec<f32>) {
        self.names.push(name);
        self.signals.push(signal);
    }

    /// The first clips, as far as there are so many.
    pub fn first(&self, count: usize) -> Self {
        let count = count.min(self.len());
        Self { names: self.names[..count].to_vec(), signals: self.signals[..count].to_vec() }
    }
}

impl Splits {
    /// The split by clip: of each ten one is held out, in turn to test and to validate. If there are fewer than twenty,
    /// the last two are held out (of two the last, for both); the last fifth of a single clip is, half for each.
    pub fn of(clips: Clips) -> Self {
        let count = clips.len();
        let mut splits = Self { count, ..Self::default() };
        let mut all: Vec<(String, Vec<f32>)> = clips.names.into_iter().zip(clips.signals).collect();
        if let [(name, signal)] = &mut all[..] {
            let (train, held) = (signal.len() * 4 / 5, signal.len() * 9 / 10);
            splits.train.push(name.clone(), signal[..train].to_vec());
            splits.validation.push(format!("{name} from 80%"), signal[train..held].to_vec());
            splits.test.push(format!("{name} from 90%"), signal[held..].to_vec());
            return splits;
        }
        for (i, (name, signal)) in all.into_iter().enumerate() {
            let part = match (count < 20, count - 1 - i, i % 20) {
                (true, 0, _) | (false, _, 7) => &mut splits.test,
                (true, 1, _) if count > 2 => &mut splits.validation,
                (false, _, 17) => &mut splits.validation,
                _ => &mut splits.train,
            };
            part.push(name, signal);
        }
        if splits.validation.is_empty() {
            splits.validation = splits.test.clone();
        }
        splits
    }

    /// A hash of all samples.
    pub fn hash(&self) -> u64 {
        let mut hash = Hash::NEW;
        for signal in [&self.train, &self.validation, &self.test].into_iter().flat_map(|part| &part.signals) {
            hash.bits(signal.len() as u64);
            signal.iter().for_each(|x| hash.bits(x.to_bits().into()));
        }
        hash.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_clip_in_ten_is_held_out() {
        let clips = |count: usize| {
            let mut clips = Clips::default();
            (0..count).for_each(|i| clips.push(i.to_string(), vec![i as f32; 100]));
            Splits::of(clips)
        };
        let sizes = |splits: &Splits| [splits.train.len(), splits.validation.len(), splits.test.len()];
        assert_eq!(sizes(&clips(100)), [90, 5, 5]);
        assert_eq!(sizes(&clips(3)), [1, 1, 1]);
        assert_eq!(sizes(&clips(2)), [1, 1, 1]);
        let one = clips(1);
        let lengths = [&one.train, &one.validation, &one.test].map(|part| part.samples());
        assert_eq!((sizes(&one), lengths), ([1, 1, 1], [80, 10, 10]));
        assert_eq!(sizes(&clips(0)), [0, 0, 0]);
        assert_eq!(clips(100).hash(), clips(100).hash());
        assert_ne!(clips(100).hash(), clips(99).hash());
    }
}
