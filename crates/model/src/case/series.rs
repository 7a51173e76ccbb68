//! What is compared: a way to send, as one arm of a cell and one line of a chart.

use std::fmt;

use strum::VariantArray;

use super::{CaseError, Engine, Layout, SendPath};

/// The size below which the hybrid paths copy a field, unless another is given, in bytes.
pub const DEFAULT_COPY_BELOW_BYTES: usize = 4096;

/// A way to send: the path with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "Written", into = "Written"))]
pub struct Series {
    /// How the message leaves.
    pub path: SendPath,
    /// Where its fields lie.
    pub layout: Layout,
    /// How the path's call is made.
    pub engine: Engine,
    /// The hybrid paths copy fields of fewer bytes. [`DEFAULT_COPY_BELOW_BYTES`] for the others,
    /// which do not look at it.
    pub copy_below_bytes: usize,
}

impl Series {
    /// A path by system calls, with the default threshold.
    pub const fn new(path: SendPath, layout: Layout) -> Self {
        Self { path, layout, engine: Engine::Syscall, copy_below_bytes: DEFAULT_COPY_BELOW_BYTES }
    }

    /// Every way that there is with this layout, each once, with the default threshold.
    pub fn every(layout: Layout) -> Vec<Self> {
        let engines = |&path: &SendPath| {
            <Engine as VariantArray>::VARIANTS.iter().map(move |&engine| Self::new(path, layout).by(engine))
        };
        let ways = <SendPath as VariantArray>::VARIANTS.iter().flat_map(engines);
        ways.filter(|way| way.check().is_ok()).collect()
    }

    /// The same way by another engine.
    #[must_use]
    pub const fn by(self, engine: Engine) -> Self {
        Self { engine, ..self }
    }

    /// The same with another threshold, for the paths that have one.
    #[must_use]
    pub fn copying_below(self, copy_below_bytes: usize) -> Self {
        if self.path.has_threshold() { Self { copy_below_bytes, ..self } } else { self }
    }

    /// Refuses what does not go together.
    ///
    /// # Errors
    /// [`CaseError::Engine`], [`CaseError::Layout`].
    pub fn check(self) -> Result<(), CaseError> {
        let Self { path, layout, engine, .. } = self;
        let has_engine = match engine {
            Engine::Syscall => true,
            Engine::Uring | Engine::UringSqpoll => SendPath::STUDIED.contains(&path),
            Engine::UringFixed => path == SendPath::ZeroCopy,
        };
        if !has_engine {
            return Err(CaseError::Engine { path, engine });
        }
        // The fields of `file` lie in a file of its own, one after the other.
        if path == SendPath::File && layout != Layout::Heap {
            return Err(CaseError::Layout { path, layout });
        }
        Ok(())
    }

    /// Engine and threshold, each left out where it is the default: the end of a case's id.
    pub fn departures(self) -> String {
        let below = departure(self.copy_below_bytes, DEFAULT_COPY_BELOW_BYTES).replace('/', "/below");
        departure(self.engine, Engine::default()) + &below
    }
}

/// A part of an id, left out where it is the default.
pub(super) fn departure<T: Copy + fmt::Display + PartialEq>(value: T, default: T) -> String {
    if value == default { String::new() } else { format!("/{value}") }
}

/// How a series is written down: a path and a layout, as it was before there were engines and
/// thresholds, and with a name for each where one of the two departs from the default.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Written {
    Plain(SendPath, Layout),
    Named {
        path: SendPath,
        layout: Layout,
        #[serde(default)]
        engine: Engine,
        #[serde(default = "default_copy_below_bytes")]
        copy_below_bytes: usize,
    },
}

/// For what was written before there was a threshold.
#[cfg(feature = "serde")]
pub(super) fn default_copy_below_bytes() -> usize {
    DEFAULT_COPY_BELOW_BYTES
}

#[cfg(feature = "serde")]
impl From<Written> for Series {
    fn from(written: Written) -> Self {
        match written {
            Written::Plain(path, layout) => Self::new(path, layout),
            Written::Named { path, layout, engine, copy_below_bytes } => {
                Self { path, layout, engine, copy_below_bytes }
            }
        }
    }
}

#[cfg(feature = "serde")]
impl From<Series> for Written {
    fn from(series: Series) -> Self {
        let Series { path, layout, engine, copy_below_bytes } = series;
        if series == Series::new(path, layout) {
            return Self::Plain(path, layout);
        }
        Self::Named { path, layout, engine, copy_below_bytes }
    }
}

impl fmt::Display for Series {
    /// As in `zero_copy/page`, or `zero_copy/page/uring`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.path, self.layout, self.departures())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "full")]
    #[test]
    fn a_series_is_read_as_it_was_written_and_as_it_was_written_before_there_were_engines() {
        let plain = Series::new(SendPath::ZeroCopy, Layout::Page);
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"["zero_copy","page"]"#);
        let others = [
            plain.by(Engine::UringFixed),
            Series::new(SendPath::HybridZero, Layout::Huge).copying_below(1024),
        ];
        for series in others.into_iter().chain([plain]) {
            let json = serde_json::to_string(&series).unwrap();
            assert_eq!(serde_json::from_str::<Series>(&json).unwrap(), series, "{json}");
        }
        let short: Series = serde_json::from_str(r#"{"path":"file","layout":"heap"}"#).unwrap();
        assert_eq!(short, Series::new(SendPath::File, Layout::Heap));
        assert!(serde_json::from_str::<Series>(r#"["zero_copy"]"#).is_err());
    }

    #[test]
    fn a_name_leaves_out_what_is_the_default() {
        let series = Series::new(SendPath::ZeroCopy, Layout::Page);
        assert_eq!(series.to_string(), "zero_copy/page");
        assert_eq!(series.by(Engine::Uring).to_string(), "zero_copy/page/uring");
        let hybrid = Series::new(SendPath::Hybrid, Layout::Heap).copying_below(1024);
        assert_eq!(hybrid.to_string(), "hybrid/heap/below1024");
        assert_eq!(series.copying_below(1024), series, "it has no threshold");
    }
}
