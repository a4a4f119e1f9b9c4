//! What the names of files, folders and arrays say of the images in them.

/// Which part of a data set a word names: training, validation or test, as do `train2017` and `trainset`.
pub(super) fn part(word: &str) -> Option<usize> {
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
    match word.strip_suffix("set").unwrap_or(word) {
        "train" | "training" => Some(0),
        "val" | "valid" | "validation" | "dev" => Some(1),
        "test" | "testing" | "t10k" => Some(2),
        _ => None,
    }
}

/// What the parts are called.
pub(super) const PARTS: [&str; 3] = ["training", "validation", "test"];

/// What an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Images,
    Labels,
}

/// What the words of a name say, as of `emnist-letters-train-images-idx3-ubyte`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub part: Option<usize>,
    pub role: Option<Role>,
    /// The other words.
    pub set: String,
}

impl Name {
    /// The meaning of a name without its folder.
    pub(super) fn of(name: &str) -> Self {
        let lower = name.to_lowercase();
        let (mut of, mut rest) = (Self::default(), Vec::new());
        for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            match (part(word), role(word)) {
                (Some(part), _) if of.part.is_none() => of.part = Some(part),
                // The number of dimensions is more telling than a word such as `data`.
                (_, Some((role, telling))) => of.role = if telling { Some(role) } else { of.role.or(Some(role)) },
                _ if matches!(word, "ubyte" | "byte" | "int" | "idx" | "gz" | "npy" | "npz" | "csv" | "arr" | "0") => {}
                _ => rest.push(word),
            }
        }
        of.set = rest.join("-");
        of
    }
}

/// What a word says that an array holds, and whether it leaves no doubt.
fn role(word: &str) -> Option<(Role, bool)> {
    Some(match word {
        "idx3" | "idx4" => (Role::Images, true),
        "idx1" | "idx2" => (Role::Labels, true),
        "label" | "labels" | "y" | "target" | "targets" | "class" | "classes" => (Role::Labels, false),
        "image" | "images" | "img" | "imgs" | "x" | "data" | "pixels" => (Role::Images, false),
        _ => return None,
    })
}

/// Which parts folders are, by their names: all of them, or at least one for training and another, that have the same
/// other words, as `seg_train` and `seg_test` have.
pub(super) fn parts_of(folders: &[String]) -> [Option<usize>; 3] {
    let named: Vec<Name> = folders.iter().map(|folder| Name::of(folder)).collect();
    let whole = |of: &&Name| of.part.is_some();
    let Some(set) = named.iter().filter(whole).find(|of| of.part == Some(0)).or(named.iter().find(whole)) else {
        return [None; 3];
    };
    let find = |part| named.iter().position(|of| of.part == Some(part) && of.set == set.set && of.role == set.role);
    let parts = [0, 1, 2].map(find);
    let known = parts.iter().flatten().count();
    let is_split = parts[0].is_some() && known > 1;
    // One folder that is named with more words may be a class, such as `test_tube`.
    let is_all = known == folders.len() && set.set.is_empty();
    if is_split || is_all { parts } else { [None; 3] }
}

/// Whether folders that are not parts look as if they were: all of them, or two with the same end, begin with the name of a
/// part, as `trainA` and `testA` do.
pub(super) fn look_like_parts(folders: &[String]) -> bool {
    let ends = |words: &[&str]| -> Vec<String> {
        let lower = folders.iter().map(|folder| folder.to_lowercase());
        lower.filter_map(|name| words.iter().find_map(|word| name.strip_prefix(word).map(String::from))).collect()
    };
    let (train, others) = (ends(&["training", "train"]), ends(&["testing", "test", "validation", "valid", "val"]));
    let is_all = train.len() + others.len() == folders.len() && !train.is_empty() && !others.is_empty();
    is_all || train.iter().any(|end| others.contains(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell_parts_and_roles() {
        use Role::{Images, Labels};
        for (name, part, role, set) in [
            ("t10k-images-idx3-ubyte.gz", Some(2), Some(Images), ""),
            ("train-labels.idx1-ubyte", Some(0), Some(Labels), ""),
            ("emnist-letters-train-images-idx3-ubyte", Some(0), Some(Images), "emnist-letters"),
            ("x_test", Some(2), Some(Images), ""),
            ("val_labels", Some(1), Some(Labels), ""),
            ("kmnist-train-imgs.npz", Some(0), Some(Images), "kmnist"),
            ("data-idx1-ubyte", None, Some(Labels), ""),
            ("photos.npy", None, None, "photos"),
        ] {
            assert_eq!(Name::of(name), Name { part, role, set: set.into() }, "{name}");
        }
    }

    #[test]
    fn folders_are_parts_or_classes() {
        for (folders, parts) in [
            ("Test Train", [Some(1), None, Some(0)]),
            ("test train validation", [Some(1), Some(2), Some(0)]),
            ("train", [Some(0), None, None]),
            ("test", [None, None, Some(0)]),
            ("seg_pred seg_test seg_train", [Some(2), None, Some(1)]),
            ("test_set training_set", [Some(1), None, Some(0)]),
            ("extra train val", [Some(1), Some(2), None]),
            ("train2017 val2017", [Some(0), Some(1), None]),
            ("testset trainset", [Some(1), None, Some(0)]),
            ("bus car train valve", [None; 3]),
            ("bus test", [None; 3]),
            ("test_tube train_station", [None; 3]),
            ("test_tube", [None; 3]),
            ("cats dogs", [None; 3]),
        ] {
            let folders: Vec<String> = folders.split(' ').map(String::from).collect();
            assert_eq!(parts_of(&folders), parts, "{folders:?}");
        }
    }

    #[test]
    fn folders_that_may_be_parts_are_doubtful() {
        for (folders, doubtful) in [
            ("trainA trainB testA testB", true),
            ("extra testA trainA", true),
            ("test_tube train_station", true),
            ("train_interior train_station valley airport", false),
            ("train trailer", false),
            ("test tube", false),
        ] {
            let folders: Vec<String> = folders.split(' ').map(String::from).collect();
            assert_eq!(look_like_parts(&folders), doubtful, "{folders:?}");
        }
    }
}
